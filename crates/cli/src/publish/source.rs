//! Where a version's files come from.

use std::{path::PathBuf, str::FromStr};

use super::gguf::is_folder_of_gguf;
use crate::hub::HubSource;

/// Object stores that a file can be taken from.
const STORES: [&str; 4] = ["file://", "s3://", "gs://", "az://"];
const GGUF: &str = ".gguf";

/// Where a version's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder or a file.
    Local(PathBuf),
    Hub(HubSource),
    /// The URI of a GGUF.
    Store(String),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(repository) = text.strip_prefix("hf:") {
            return repository.parse().map(Self::Hub);
        }
        if STORES.iter().any(|store| text.starts_with(store)) {
            return if is_gguf(text) {
                Ok(Self::Store(text.to_owned()))
            } else {
                Err(format!(
                    "{text} does not end in {GGUF}: of an object store only a GGUF can be published"
                ))
            };
        }
        match text {
            "" => Err("name a folder, a GGUF file, hf:OWNER/NAME or hf:OWNER/NAME/FILE.gguf".into()),
            text if text.contains("://") => Err(format!("{text} is in no store that is known: {}", STORES.join(", "))),
            text => Ok(Self::Local(text.into())),
        }
    }
}

impl Source {
    /// Whether its name says that it is one GGUF.
    pub(super) fn is_gguf(&self) -> bool {
        match self {
            Self::Local(path) => is_gguf(&path.to_string_lossy()),
            Self::Hub(hub) => hub.file.is_some(),
            Self::Store(_) => true,
        }
    }

    /// Whether it is a scribe, as far as can be told without asking the hub.
    pub(crate) fn is_scribe(&self) -> bool {
        self.is_gguf() || matches!(self, Self::Local(path) if is_folder_of_gguf(path))
    }
}

pub(crate) fn is_gguf(name: &str) -> bool {
    name.len() > GGUF.len() && name.to_ascii_lowercase().ends_with(GGUF)
}

/// Refuses one file of a model in several: `model-00001-of-00003.gguf`.
pub(crate) fn check_whole(name: &str) -> Result<(), String> {
    let stem = name.get(..name.len().saturating_sub(GGUF.len())).unwrap_or_default();
    let mut parts = stem.rsplitn(3, '-');
    let (of, word, rest) = (parts.next(), parts.next(), parts.next());
    let number =
        |text: Option<&str>| text.is_some_and(|text| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()));
    let before = rest.and_then(|rest| rest.rsplit_once('-'));
    if word != Some("of") || !number(of) || !number(before.map(|(_, part)| part)) {
        return Ok(());
    }
    let whole = before.map_or(stem, |(whole, _)| whole);
    Err(format!(
        "{name} is one part of a model in several files, which is not served. Merge them, then publish the result:\n  \
         llama-gguf-split --merge {whole}-00001-of-{}.gguf {whole}.gguf",
        of.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(revision: &str, file: Option<&str>) -> Source {
        Source::Hub(HubSource {
            repository: "owner/name".into(),
            revision: revision.into(),
            file: file.map(str::to_owned),
        })
    }

    #[test]
    fn sources() {
        let good = [
            ("models/v1", Source::Local("models/v1".into()), false),
            ("a/critic.GGUF", Source::Local("a/critic.GGUF".into()), true),
            ("hf:owner/name", hub("main", None), false),
            ("hf:owner/name@abc", hub("abc", None), false),
            ("hf:owner/name/m-Q4_K_M.gguf", hub("main", Some("m-Q4_K_M.gguf")), true),
            ("hf:owner/name/sub/m.gguf@abc", hub("abc", Some("sub/m.gguf")), true),
            ("s3://bucket/m.gguf", Source::Store("s3://bucket/m.gguf".into()), true),
        ];
        for (text, source, is_gguf) in good {
            assert_eq!(text.parse(), Ok(source.clone()), "{text}");
            assert_eq!(source.is_gguf(), is_gguf, "{text}");
        }
        let bad = [
            "",
            "hf:",
            "hf:name",
            "hf:a/b/c",
            "hf:owner/name@",
            "hf:../name",
            "hf:owner/name/../m.gguf",
            "hf:owner/name//m.gguf",
            "gs://bucket/folder",
            "http://host/m.gguf",
        ];
        for bad in bad {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_a_model_are_known_by_their_names() {
        let error = check_whole("Big-Model-Q4-00002-of-00003.gguf").unwrap_err();
        assert!(
            error.contains("--merge Big-Model-Q4-00001-of-00003.gguf Big-Model-Q4.gguf"),
            "{error}"
        );
        for whole in [
            "m.gguf",
            "best-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-x.gguf",
            "x",
        ] {
            assert_eq!(check_whole(whole), Ok(()), "{whole}");
        }
    }
}
