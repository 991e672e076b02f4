//! Link arguments for libtorch: see understudy-distilbert.

fn main() {
    let arguments = std::env::var_os("DEP_UNDERSTUDY_DISTILBERT_LINK_ARGUMENTS").unwrap_or_default();
    for argument in arguments
        .to_string_lossy()
        .split(';')
        .filter(|argument| !argument.is_empty())
    {
        println!("cargo::rustc-link-arg={argument}");
    }
}
