//! Names of models, versions, arms, workers and routers: they stand in registry keys, metadata, paths and metric labels.

/// Longest name in bytes.
pub const LENGTH_MAX: usize = 63;

/// Says what is wrong with a name, if anything. A good one has 1 to 63 of `a-z`, `0-9`, `-`, `_` and `.`, and begins
/// with a letter or digit.
///
/// # Errors
/// The problem, as a sentence without its subject.
pub fn check(name: &str) -> Result<(), &'static str> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match name.as_bytes() {
        [] => Err("must not be empty"),
        [first, ..] if !ok(*first) => Err("must begin with a lower-case letter or a digit"),
        bytes if bytes.len() > LENGTH_MAX => Err("must have at most 63 characters"),
        bytes if !bytes.iter().all(|&b| ok(b) || matches!(b, b'-' | b'_' | b'.')) => {
            Err("must have only lower-case letters, digits, '-', '_' and '.'")
        }
        _ => Ok(()),
    }
}

/// A name for this process: the host's and a random suffix. Persisted nowhere: two processes never share a name, not
/// even after one was copied with its disk. A host without a usable name is called `fallback`, which is a good name.
#[must_use]
pub fn unique(fallback: &str) -> String {
    const SUFFIX: usize = 6;
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|host| host.into_string().ok())
        .unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let host: String = host.chars().map(plain).take(LENGTH_MAX - SUFFIX - 1).collect();
    let host = match host.trim_matches('-') {
        "" => fallback,
        host => host,
    };
    let draw: u32 = rand::random();
    format!("{host}-{:06x}", draw >> 8)
}

#[cfg(test)]
mod tests {
    use super::{check, unique};

    #[test]
    fn unique_names_are_valid_and_differ() {
        let names = [unique("worker"), unique("worker")];
        assert_ne!(names[0], names[1]);
        assert_eq!(names.map(|name| check(&name)), [Ok(()), Ok(())]);
    }

    #[test]
    fn names() {
        for good in ["v1", "distilbert-base_2.0", "0"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-v", ".", "..", "a/b", "V1", "é", "a b", &long] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
