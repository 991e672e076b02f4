//! Files that are there whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::Path;

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
    attempt().map_err(|error| {
        // On a full disk its room is needed; that it may not be there is no further error.
        let _ = std::fs::remove_file(partial);
        error.context(format!("cannot write {}", path.display()))
    })
}

/// Errors of the system that say that a file found no room: ENOSPC, EDQUOT, EFBIG. Looked for in the text, because libraries pass
/// the system's error on as text only.
const NO_ROOM: [&str; 3] = ["(os error 28)", "(os error 122)", "(os error 27)"];

/// Says what to do if an error is for want of room.
pub(crate) fn advise(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    if NO_ROOM.iter().any(|code| text.contains(code)) {
        return error.context(
            "no room to save the run; what was saved before is whole. Make room on that disk, then give the same command with --resume",
        );
    }
    error
}
