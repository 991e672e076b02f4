//! A version's folder: hard links to blobs.

use std::{collections::BTreeSet, fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use super::{Layout, TEMPORARY, Tree, open_lock, sync_folder, touch};
use crate::{Error, File};

impl Layout {
    /// The tree of files whose blobs are all here, and a hold on it.
    pub(super) fn tree(&self, digest: &str, files: &[File]) -> Result<Tree, Error> {
        let path = self.trees.join(digest);
        let lock_path = path.with_extension("lock");
        let lock = open_lock(&lock_path)?;
        lock.lock_shared().map_err(Error::local("cannot lock", &lock_path))?;
        touch(&lock, &lock_path)?;
        if !self.is_tree(&path, files) {
            self.build(&path, files)?;
        }
        Ok(Tree {
            path,
            _in_use: Arc::new(lock),
        })
    }

    /// True if each file is the very inode of its blob, which was checked.
    fn is_tree(&self, path: &Path, files: &[File]) -> bool {
        let inode = |path: &Path| fs::symlink_metadata(path).map(|m| (m.dev(), m.ino())).ok();
        files.iter().all(|file| {
            let blob = inode(&self.blob(&file.sha256));
            blob.is_some() && inode(&path.join(&file.path)) == blob
        })
    }

    fn build(&self, path: &Path, files: &[File]) -> Result<(), Error> {
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(&self.trees)
            .map_err(Error::local("cannot make a folder in", &self.trees))?;
        let mut folders = BTreeSet::from([temporary.path().to_owned()]);
        for file in files {
            let link = temporary.path().join(&file.path);
            if let Some(folder) = link.parent() {
                fs::create_dir_all(folder).map_err(Error::local("cannot make", folder))?;
                let inside = folder.ancestors().take_while(|f| f.starts_with(temporary.path()));
                folders.extend(inside.map(Path::to_owned));
            }
            fs::hard_link(self.blob(&file.sha256), &link).map_err(Error::local(
                "cannot make a hard link (which the cache's file system must have)",
                &link,
            ))?;
        }
        for folder in folders {
            sync_folder(&folder)?;
        }
        match fs::rename(temporary.path(), path) {
            Ok(()) => {}
            // A fetch beside this one was faster, or what is there is damaged.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                if self.is_tree(path, files) {
                    return Ok(());
                }
                self.remove_tree(path)?;
                fs::rename(temporary.path(), path).map_err(Error::local("cannot put in place", path))?;
            }
            Err(error) => return Err(Error::local("cannot put in place", path)(error)),
        }
        sync_folder(&self.trees)
    }

    /// Takes the name away first, so that a tree with its name is never one that is half removed.
    pub(super) fn remove_tree(&self, path: &Path) -> Result<(), Error> {
        let failed = Error::local("cannot remove", path);
        let remove = || {
            let grave = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.trees)?;
            fs::rename(path, grave.path().join("removed"))?;
            grave.close()
        };
        remove().map_err(failed)
    }
}
