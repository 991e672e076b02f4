//! Calls: one round trip each, each with its time limit.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp};
use tokio::sync::OnceCell;
use tonic::Code;
use understudy_protocol::v1;

use crate::{
    Announcement, Error, Follow, RegistryOptions,
    config::Config,
    record::{Record, decode, encode, full_path},
};

/// The longest that one call to the registry may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Keys a page of a listing.
const PAGE_KEYS: i64 = 64;
/// Bytes of an answer: a full page of the largest values etcd takes.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A record with the revision that a compare-and-swap of it must name.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<R> {
    /// The record.
    pub value: R,
    /// The registry's revision that wrote it.
    pub mod_revision: i64,
}

/// All records of a kind at one revision.
#[derive(Debug, Clone)]
pub struct Listing<R> {
    /// By key: "sentiment", "sentiment/v1" or a worker's name.
    pub records: BTreeMap<String, Stored<R>>,
    /// Why a key's record cannot be used.
    pub problems: BTreeMap<String, String>,
    /// The revision.
    pub revision: i64,
}

/// Raw values of a kind at one revision.
pub(crate) struct Page {
    pub(crate) values: Vec<(String, KeyValue)>,
    pub(crate) revision: i64,
}

/// The registry. Clones share one connection.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    client: OnceCell<Client>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { endpoints, prefix, .. } = &self.inner.config;
        f.debug_struct("Registry")
            .field("endpoints", endpoints)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Checks the options. Makes no round trip: the registry may be away.
    ///
    /// # Errors
    /// [`Error::Options`].
    #[expect(
        clippy::unused_async,
        reason = "must run inside of a tokio runtime, as all that follows"
    )]
    pub async fn connect(options: &RegistryOptions) -> Result<Self, Error> {
        let inner = Inner {
            config: Config::try_from(options)?,
            client: OnceCell::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Publishes a version.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Invalid`], or those of any call.
    pub async fn create_manifest(&self, manifest: &v1::Manifest) -> Result<(), Error> {
        match self.swap(manifest, 0).await {
            Ok(_) => Ok(()),
            Err(Error::Conflict(key)) => Err(Error::AlreadyExists(key)),
            Err(other) => Err(other),
        }
    }

    /// A version's manifest.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be used, or those of any call.
    pub async fn manifest(&self, model: &str, version: &str) -> Result<Option<v1::Manifest>, Error> {
        Ok(self
            .get(&format!("{model}/{version}"))
            .await?
            .map(|stored| stored.value))
    }

    /// A model's latest rollout.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be used, or those of any call.
    pub async fn rollout(&self, model: &str) -> Result<Option<Stored<v1::Rollout>>, Error> {
        self.get(model).await
    }

    /// A model's route.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be used, or those of any call.
    pub async fn route(&self, model: &str) -> Result<Option<Stored<v1::Route>>, Error> {
        self.get(model).await
    }

    /// Writes a model's route if it is still the one that was read: `expected_mod_revision`, 0 for none. Returns the new
    /// one's revision.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::Invalid`], or those of any call.
    pub async fn put_route(&self, route: &v1::Route, expected_mod_revision: i64) -> Result<i64, Error> {
        self.swap(route, expected_mod_revision).await
    }

    /// The record with this key: "sentiment", "sentiment/v1" or a worker's name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be used, or those of any call.
    pub async fn get<R: Record>(&self, key: &str) -> Result<Option<Stored<R>>, Error> {
        let path = self.path::<R>(key);
        let answer = self
            .call(|client| async move { client.kv_client().get(path, None).await })
            .await?;
        let Some(kv) = answer.kvs().first() else {
            return Ok(None);
        };
        Ok(Some(Stored {
            value: decode(key, kv.value())?,
            mod_revision: kv.mod_revision(),
        }))
    }

    /// All records of a kind.
    ///
    /// # Errors
    /// Those of any call; records that cannot be used are reported in the listing.
    pub async fn list<R: Record>(&self) -> Result<Listing<R>, Error> {
        let page = self.pages::<R>().await?;
        let mut listing = Listing {
            records: BTreeMap::new(),
            problems: BTreeMap::new(),
            revision: page.revision,
        };
        for (key, kv) in page.values {
            match decode(&key, kv.value()) {
                Ok(value) => {
                    listing.records.insert(
                        key,
                        Stored {
                            value,
                            mod_revision: kv.mod_revision(),
                        },
                    );
                }
                Err(error) => {
                    listing.problems.insert(key, error.to_string());
                }
            }
        }
        Ok(listing)
    }

    /// Keeps a copy of all records of a kind up to date, for as long as the answer or a clone of it lives.
    #[must_use]
    pub fn follow<R: Record>(&self) -> Follow<R> {
        Follow::start(self.clone())
    }

    /// Keeps a worker's record in the registry under a lease, for as long as the answer lives.
    ///
    /// The record is gone `ttl` (whole seconds, at least 2) after this process stopped renewing it.
    #[must_use]
    pub fn announce(&self, worker: v1::Worker, ttl: Duration) -> Announcement {
        Announcement::start(self.clone(), worker, ttl)
    }

    /// Writes a record if its key is still at `expected` (0: absent).
    async fn swap<R: Record>(&self, record: &R, expected: i64) -> Result<i64, Error> {
        let value = encode(record)?;
        let path = self.path::<R>(&record.key());
        let txn = Txn::new()
            .when([Compare::mod_revision(path.clone(), CompareOp::Equal, expected)])
            .and_then([TxnOp::put(path, value, None)]);
        let answer = self
            .call(|client| async move { client.kv_client().txn(txn).await })
            .await?;
        if !answer.succeeded() {
            return Err(Error::Conflict(full_path::<R>(&record.key())));
        }
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Every value of a kind, page after page at the first page's revision.
    pub(crate) async fn pages<R: Record>(&self) -> Result<Page, Error> {
        let folder = self.folder::<R>();
        let end = prefix_end(folder.as_bytes());
        let mut page = Page {
            values: Vec::new(),
            revision: 0,
        };
        let mut from = folder.clone().into_bytes();
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE_KEYS)
                .with_revision(page.revision);
            let start = from.clone();
            let mut answer = self
                .call(|client| async move {
                    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
                    kv.get(start, Some(options)).await
                })
                .await?;
            if page.revision == 0 {
                page.revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            let kvs = answer.take_kvs();
            if let Some(last) = kvs.last() {
                from = [last.key(), &[0]].concat();
            }
            let more = answer.more() && !kvs.is_empty();
            page.values
                .extend(kvs.into_iter().filter_map(|kv| Some((self.key_of::<R>(kv.key())?, kv))));
            if !more {
                return Ok(page);
            }
        }
    }

    pub(crate) fn below_prefix(&self, path: &str) -> String {
        format!("{}{path}", self.inner.config.prefix)
    }

    /// The kind's folder with the prefix.
    pub(crate) fn folder<R: Record>(&self) -> String {
        self.below_prefix(R::FOLDER)
    }

    /// A record's path with the prefix.
    pub(crate) fn path<R: Record>(&self, key: &str) -> String {
        self.below_prefix(&full_path::<R>(key))
    }

    /// The key of a path with the prefix, if it is of this kind.
    pub(crate) fn key_of<R: Record>(&self, path: &[u8]) -> Option<String> {
        let path = std::str::from_utf8(path).ok()?;
        R::key_of(path.strip_prefix(&self.inner.config.prefix)?.strip_prefix(R::FOLDER)?)
    }

    /// Makes one call within the time limit.
    pub(crate) async fn call<T, F>(&self, make: impl FnOnce(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let call = async {
            // With a user name this logs in; without, it only lays out the channel.
            let connect = || Client::connect(&self.inner.config.endpoints, Some(self.inner.config.connect.clone()));
            let client = self.inner.client.get_or_try_init(connect).await?;
            make(client.clone()).await
        };
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| self.error(&error)),
            Err(_) => Err(self.unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
        }
    }

    pub(crate) fn error(&self, error: &etcd_client::Error) -> Error {
        match error {
            etcd_client::Error::GRpcStatus(status) => match status.code() {
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented
                | Code::OutOfRange => Error::Refused(status.message().to_owned()),
                _ => self.unavailable(status.message().to_owned()),
            },
            etcd_client::Error::InvalidArgs(_)
            | etcd_client::Error::InvalidUri(_)
            | etcd_client::Error::EndpointError(_) => Error::Options(error.to_string()),
            other => self.unavailable(with_sources(other)),
        }
    }

    pub(crate) fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable {
            endpoints: self.inner.config.endpoints.join(", "),
            reason,
        }
    }
}

/// An error's text with its causes: a transport error alone says only "transport error".
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The first key after all that begin with `prefix`, which ends with a slash.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}
