//! Links the executable so that it finds libtorch, as `understudy-distilbert` says.

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
