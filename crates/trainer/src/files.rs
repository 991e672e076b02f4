//! Files that are there whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Writes a file by way of a temporary one in the same folder.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    replace(path, |partial| {
        let mut file = File::create(partial)?;
        file.write_all(content)?;
        Ok(())
    })
}

/// The same for whatever writes a file by its path.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let attempt = || -> anyhow::Result<()> {
        write(partial)?;
        File::open(partial)?.sync_all()?;
        std::fs::rename(partial, path)?;
        Ok(())
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}
