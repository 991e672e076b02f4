//! One GGUF file: what a scribe is made of.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use super::source::{check_whole, is_gguf};
use crate::output::Output;

const MAGIC: &[u8; 4] = b"GGUF";
/// What stands in place of a large file that git did not fetch.
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// Files that a message names.
const NAMES_TOLD: usize = 12;

/// A GGUF on this machine.
#[derive(Debug)]
pub(super) struct Gguf {
    pub(super) folder: PathBuf,
    pub(super) file: String,
    /// Keeps what was downloaded.
    _temporary: Option<TempDir>,
}

impl Gguf {
    /// A file, or the GGUF of a folder.
    pub(super) fn open(path: &Path, file: Option<&str>, output: &Output) -> anyhow::Result<Self> {
        let shown = path.display();
        let path = if path.is_dir() {
            path.join(choose(&shown.to_string(), &names(path)?, file)?)
        } else {
            ensure!(path.exists(), "there is no file {shown}");
            ensure!(file.is_none(), "{shown} is a file already: leave out --file");
            path.to_owned()
        };
        Self::of_file(&path, output)
    }

    /// Takes a file out of an object store.
    pub(super) async fn download(uri: &str, output: &Output) -> anyhow::Result<Self> {
        if let Some(path) = understudy_artifacts::path_of_uri(uri) {
            ensure!(path.exists(), "there is no file {}", path.display());
            return Self::of_file(&path, output);
        }
        let name = uri.rsplit('/').next().unwrap_or_default();
        check_whole(name).map_err(anyhow::Error::msg)?;
        let temporary = tempfile::tempdir().context("cannot create a temporary folder")?;
        let path = temporary.path().join(name);
        let bar = output.bar(
            0,
            "downloading {bar:30} {bytes:>10} of {total_bytes}  {binary_bytes_per_sec}  {eta}",
        );
        let downloaded = understudy_artifacts::download(uri, &path, |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        let downloaded = downloaded.await;
        bar.finish_and_clear();
        downloaded?;
        let mut gguf = Self::of_file(&path, output)?;
        gguf._temporary = Some(temporary);
        Ok(gguf)
    }

    /// The worker checks it when it loads it. What is seen at a glance is told here.
    fn of_file(path: &Path, output: &Output) -> anyhow::Result<Self> {
        let shown = path.display();
        let file = path.file_name().and_then(|name| name.to_str());
        let file = file.with_context(|| format!("the name of {shown} is not UTF-8"))?;
        ensure!(
            is_gguf(file),
            "{shown} is no GGUF: a scribe is one file whose name ends in .gguf"
        );
        check_whole(file).map_err(anyhow::Error::msg)?;
        ensure!(path.is_file(), "{shown} is no regular file");
        let mut start = Vec::new();
        let opened = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        opened.take(LFS_POINTER.len() as u64).read_to_end(&mut start)?;
        if start == LFS_POINTER {
            bail!("{shown} only stands for the model: fetch it with `git lfs pull`");
        }
        if !start.starts_with(MAGIC) {
            output.warning(format_args!(
                "{shown} does not begin as a GGUF does: workers will refuse it"
            ));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self {
            folder,
            file: file.to_owned(),
            _temporary: None,
        })
    }
}

/// Whether a folder holds a scribe and no analyst.
pub(super) fn is_folder_of_gguf(path: &Path) -> bool {
    path.is_dir()
        && !path.join(super::checkpoint::CONFIG).exists()
        && names(path).is_ok_and(|names| names.iter().any(|name| is_gguf(name)))
}

fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

/// The file that is meant, or the only one.
pub(crate) fn choose(shown: &str, names: &[String], file: Option<&str>) -> anyhow::Result<String> {
    let mut found: Vec<_> = names.iter().filter(|name| is_gguf(name)).map(String::as_str).collect();
    found.sort_unstable();
    if let Some(file) = file {
        ensure!(
            found.contains(&file),
            "{shown} has no GGUF {file}; it has: {}",
            list(&found)
        );
        return Ok(file.to_owned());
    }
    match found[..] {
        [] => bail!("{shown} has no file whose name ends in .gguf, so it is no scribe"),
        [only] => Ok(only.to_owned()),
        [first, ..] => {
            if let Err(problem) = check_whole(first)
                && found.iter().all(|name| check_whole(name).is_err())
            {
                bail!(problem);
            }
            bail!(
                "{shown} has several GGUFs: choose one with --file, e.g. --file {first}; it has: {}",
                list(&found)
            )
        }
    }
}

fn list(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names if names.len() <= NAMES_TOLD => names.join(", "),
        names => format!(
            "{} and {} more",
            names[..NAMES_TOLD].join(", "),
            names.len() - NAMES_TOLD
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], file: Option<&str>) -> Result<String, String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        choose("folder", &names, file).map_err(|error| error.to_string())
    }

    #[test]
    fn one_file_is_meant_or_the_user_is_asked() {
        assert_eq!(chosen(&["README.md", "m.gguf"], None), Ok("m.gguf".into()));
        assert_eq!(chosen(&["a.gguf", "b.gguf"], Some("b.gguf")), Ok("b.gguf".into()));
        assert!(
            chosen(&["b.gguf", "a.gguf"], None)
                .unwrap_err()
                .contains("--file a.gguf; it has: a.gguf, b.gguf")
        );
        assert!(
            chosen(&["a.gguf"], Some("c.gguf"))
                .unwrap_err()
                .contains("no GGUF c.gguf; it has: a.gguf")
        );
        assert!(chosen(&["a.txt"], None).unwrap_err().contains("no scribe"));
        let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        assert!(chosen(&parts, None).unwrap_err().contains("--merge"));
    }
}
