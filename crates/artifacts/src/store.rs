//! Opens an artifact store by its URI.

use std::{
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use object_store::{
    ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use url::Url;

use crate::Error;

/// Retries of one HTTP request inside `object_store`.
const REQUEST_RETRIES_MAX: usize = 4;
const REQUEST_RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// A large file may take long as long as bytes arrive: the time without any is what is bounded.
const REQUEST_TIMEOUT: &str = "3600 seconds";
const READ_TIMEOUT: &str = "30 seconds";

/// A folder in an artifact store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    base: Path,
    uri: String,
}

impl Store {
    pub(crate) fn open(uri: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::Uri {
            uri: uri.to_owned(),
            reason,
        };
        let url = Url::parse(uri).map_err(|error| bad(error.to_string()))?;
        let (scheme, base) = ObjectStoreScheme::parse(&url).map_err(|error| bad(error.to_string()))?;
        let failed = |error: object_store::Error| bad(error.to_string());
        let retry = RetryConfig {
            max_retries: REQUEST_RETRIES_MAX,
            retry_timeout: REQUEST_RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let timeouts = [
            (ClientConfigKey::Timeout, REQUEST_TIMEOUT),
            (ClientConfigKey::ReadTimeout, READ_TIMEOUT),
        ];
        let objects: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new().with_fsync(true)),
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(uri).with_retry(retry);
                let with = |b: AmazonS3Builder, (key, value)| b.with_config(AmazonS3ConfigKey::Client(key), value);
                Arc::new(timeouts.into_iter().fold(builder, with).build().map_err(failed)?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(uri).with_retry(retry);
                let with =
                    |b: GoogleCloudStorageBuilder, (key, value)| b.with_config(GoogleConfigKey::Client(key), value);
                Arc::new(timeouts.into_iter().fold(builder, with).build().map_err(failed)?)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(uri).with_retry(retry);
                let with = |b: MicrosoftAzureBuilder, (key, value)| b.with_config(AzureConfigKey::Client(key), value);
                Arc::new(timeouts.into_iter().fold(builder, with).build().map_err(failed)?)
            }
            _ => return Err(bad(format!("{:?} is not supported", url.scheme()))),
        };
        let uri = uri.trim_end_matches('/').to_owned();
        Ok(Self { objects, base, uri })
    }

    /// The store's name of what the URI names.
    pub(crate) fn itself(&self) -> Path {
        self.base.clone()
    }

    /// The store's name of a valid relative path.
    pub(crate) fn location(&self, relative: &str) -> Path {
        let parts = relative.split('/').map(object_store::path::PathPart::from);
        self.base.parts().chain(parts).collect()
    }

    /// The URI of a relative path, for people.
    pub(crate) fn uri_of(&self, relative: &str) -> String {
        format!("{}/{relative}", self.uri)
    }
}

/// The `file://` URI of a local folder, made absolute.
///
/// # Errors
/// [`Error::Local`] if there is no working directory to make it absolute.
pub fn uri_of_folder(folder: &FsPath) -> Result<String, Error> {
    let absolute = std::path::absolute(folder).map_err(Error::local("cannot make absolute", folder))?;
    let url = Url::from_directory_path(&absolute).map_err(|()| Error::Uri {
        uri: absolute.display().to_string(),
        reason: "the folder's path is not absolute".to_owned(),
    })?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The local path that a `file://` URI names; `None` for other URIs.
#[must_use]
pub fn path_of_uri(uri: &str) -> Option<PathBuf> {
    let url = Url::parse(uri).ok()?;
    (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_stores_open() {
        for good in [
            "file:///tmp/x",
            "s3://bucket/folder",
            "gs://bucket/a/b",
            "az://container/a",
        ] {
            if let Err(error) = Store::open(good) {
                // Azure wants an account from the environment, which a test machine lacks.
                assert!(
                    good.starts_with("az") && error.to_string().contains("ccount"),
                    "{good}: {error}"
                );
            }
        }
        for bad in [
            "",
            "/tmp/x",
            "relative",
            "http://host/x",
            "memory:///x",
            "ftp://x/y",
            "file://host/x",
        ] {
            assert!(matches!(Store::open(bad), Err(Error::Uri { .. })), "{bad:?}");
        }
    }

    #[test]
    fn folders_become_uris_and_back() {
        let uri = uri_of_folder(FsPath::new("/tmp/my models/ü")).unwrap();
        assert_eq!(uri, "file:///tmp/my%20models/%C3%BC");
        let store = Store::open(&uri).unwrap();
        assert_eq!(store.location("a/b c.bin").as_ref(), "tmp/my models/ü/a/b c.bin");
    }
}
