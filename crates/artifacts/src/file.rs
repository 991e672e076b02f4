//! A file of a version, and what makes a list of them fit to be laid out as a folder.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::Error;

/// Longest relative path in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Most files of one version.
const FILES_MAX: usize = 10_000;

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// Relative to the version's folder, with `/` between its parts.
    pub path: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Length.
    pub size_bytes: u64,
}

impl File {
    /// Checks that a list can be laid out in a folder without leaving it: relative paths without `..`, each once, none
    /// inside another file; digests in lower-case hexadecimal.
    ///
    /// # Errors
    /// [`Error::FileList`] with the first bad entry.
    pub fn check_list(files: &[Self]) -> Result<(), Error> {
        let bad = |path: &str, reason| {
            let path = path.chars().take(PATH_BYTES_MAX).collect();
            Err(Error::FileList { path, reason })
        };
        if files.is_empty() {
            return bad("", "lists no file");
        }
        if files.len() > FILES_MAX {
            return bad("", "lists more than 10,000 files");
        }
        let mut seen = BTreeSet::new();
        let mut size = 0u64;
        for file in files {
            if let Err(reason) = check_path(&file.path) {
                return bad(&file.path, reason);
            }
            if !is_digest(&file.sha256) {
                return bad(&file.path, "has a sha256 that is not 64 lower-case hexadecimal digits");
            }
            match size.checked_add(file.size_bytes) {
                Some(sum) => size = sum,
                None => return bad(&file.path, "has an impossible size"),
            }
            if !seen.insert(file.path.as_str()) {
                return bad(&file.path, "is listed twice");
            }
        }
        for path in &seen {
            let inside = path.match_indices('/').any(|(at, _)| seen.contains(&path[..at]));
            if inside {
                return bad(path, "lies inside another file");
            }
        }
        Ok(())
    }
}

/// Says what is wrong with a relative path, if anything.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return Err("is longer than 512 bytes");
    }
    if path.starts_with('/') {
        return Err("is not relative");
    }
    if path.chars().any(|c| c == '\\' || c.is_control()) {
        return Err("has a backslash or a control character");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has an empty part, '.' or '..'");
    }
    Ok(())
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// sha256 of a valid list, whatever its order.
pub(crate) fn digest_of_list(files: &[File]) -> String {
    let sorted: BTreeSet<_> = files.iter().collect();
    let mut hash = Sha256::new();
    for file in sorted {
        hash.update(format!("{}\0{}\0{}\n", file.path, file.sha256, file.size_bytes));
    }
    hex(&hash.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> File {
        File {
            path: path.into(),
            sha256: "0".repeat(64),
            size_bytes: 1,
        }
    }

    #[test]
    fn lists_that_leave_their_folder_are_refused() {
        File::check_list(&[file("a"), file("b/c..d"), file("b/e")]).unwrap();
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../../b",
            "a//b",
            "./a",
            "a/",
            "a\\b",
            "a\0b",
            "a\nb",
        ] {
            let error = File::check_list(&[file("ok"), file(bad)]).unwrap_err();
            assert!(matches!(error, Error::FileList { .. }), "{bad:?}: {error}");
        }
        assert!(File::check_list(&[file("a"), file("a")]).is_err());
        assert!(File::check_list(&[file("a"), file("a.b"), file("a/b")]).is_err());
        assert!(File::check_list(&[]).is_err());
        for digest in ["", "../../x", &"A".repeat(64)] {
            let bad = File {
                sha256: digest.into(),
                ..file("a")
            };
            assert!(File::check_list(&[bad]).is_err(), "{digest}");
        }
    }

    #[test]
    fn digest_ignores_order_and_sees_every_field() {
        let list = [file("a"), file("b")];
        let digest = digest_of_list(&list);
        assert_eq!(digest, digest_of_list(&[file("b"), file("a")]));
        assert_ne!(digest, digest_of_list(&[file("a"), file("c")]));
        assert_ne!(
            digest,
            digest_of_list(&[
                file("a"),
                File {
                    size_bytes: 2,
                    ..file("b")
                }
            ])
        );
    }
}
