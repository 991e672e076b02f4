//! Watches. One task for each stream; a watcher is a position in the history, from which the task reads on whenever the
//! committed revision grows. So nothing is buffered for a slow client but what is on its way.

use std::{collections::BTreeMap, time::Duration};

use prost::bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Service;
use crate::{
    error::Error,
    mvcc::Keys,
    pb::etcdserverpb::{
        WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion,
        watch_server::Watch,
    },
    state::{Interest, Watched},
};

/// Watchers of all clients together.
pub(super) const WATCHERS_MAX: usize = 10_000;
/// Responses on their way to one client.
const RESPONSES_MAX: usize = 4;
/// Bytes of events in one response, about; a single revision may exceed it.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// A watcher that asked for it hears of progress this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// The id that etcd uses where no watcher is meant.
const NO_WATCHER: i64 = -1;

struct Watcher {
    interest: Interest,
    /// The first revision that it was not told.
    next: i64,
    progress: bool,
    _permit: OwnedSemaphorePermit,
}

struct Stream {
    service: Service,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    out: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// The client is gone or the server stops.
struct Ended;

#[tonic::async_trait]
impl Watch for Service {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (out, receiver) = mpsc::channel(RESPONSES_MAX);
        let stream = Stream {
            service: self.clone(),
            watchers: BTreeMap::new(),
            next_id: 0,
            out,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Stream {
    async fn run(mut self, requests: Streaming<WatchRequest>) {
        let out = self.out.clone();
        let mut stopping = self.service.stopping.clone();
        tokio::select! {
            // The client's end, or its reset.
            _ = self.work(requests) => {}
            () = out.closed() => {}
            _ = stopping.wait_for(|stop| *stop) => drop(out.try_send(Err(Error::Stopped.into()))),
        }
    }

    async fn work(&mut self, mut requests: Streaming<WatchRequest>) -> Result<(), Ended> {
        let mut committed = self.service.writer.committed();
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        let mut open = true;
        loop {
            committed.borrow_and_update();
            self.catch_up().await?;
            tokio::select! {
                request = requests.message(), if open => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    // As etcd: a client that says no more still hears.
                    Ok(None) => open = false,
                    Err(_) => return Err(Ended),
                },
                changed = committed.changed() => changed.map_err(|_: watch::error::RecvError| Ended)?,
                _ = tick.tick() => self.tell_progress().await?,
            }
        }
    }

    async fn send(&self, revision: i64, response: WatchResponse) -> Result<(), Ended> {
        let response = WatchResponse {
            header: self.service.header(revision),
            ..response
        };
        self.out.send(Ok(response)).await.map_err(|_| Ended)
    }

    fn committed(&self) -> i64 {
        self.service.state.read().committed
    }

    /// Tells each watcher what is new.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        let ids: Vec<i64> = self.watchers.keys().copied().collect();
        for watch_id in ids {
            while let Some(watcher) = self.watchers.get_mut(&watch_id) {
                let watched = self
                    .service
                    .state
                    .read()
                    .watch(&watcher.interest, watcher.next, RESPONSE_BYTES_MAX);
                match watched {
                    Watched::Events { events, next } => {
                        let progressed = next > watcher.next;
                        watcher.next = next;
                        if !events.is_empty() {
                            self.send(
                                next - 1,
                                WatchResponse {
                                    watch_id,
                                    events,
                                    ..WatchResponse::default()
                                },
                            )
                            .await?;
                        }
                        if !progressed || next > self.committed() {
                            break;
                        }
                    }
                    Watched::Compacted { revision } => {
                        self.watchers.remove(&watch_id);
                        let response = WatchResponse {
                            watch_id,
                            canceled: true,
                            compact_revision: revision,
                            cancel_reason: Error::Compacted.to_string(),
                            ..WatchResponse::default()
                        };
                        self.send(self.committed(), response).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn request(&mut self, request: WatchRequest) -> Result<(), Ended> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
            Some(RequestUnion::CancelRequest(request)) => {
                let watch_id = request.watch_id;
                if self.watchers.remove(&watch_id).is_none() {
                    return Ok(());
                }
                let response = WatchResponse {
                    watch_id,
                    canceled: true,
                    ..WatchResponse::default()
                };
                self.send(self.committed(), response).await
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                // All watchers must have heard of everything up to the revision that is told.
                self.catch_up().await?;
                let told = self.watchers.values().map(|watcher| watcher.next - 1).min();
                let committed = self.committed();
                let revision = told.map_or(committed, |told| told.min(committed));
                self.send(
                    revision,
                    WatchResponse {
                        watch_id: NO_WATCHER,
                        ..WatchResponse::default()
                    },
                )
                .await
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Ended> {
        let committed = self.committed();
        let response = match self.watcher(request, committed) {
            Ok((watch_id, watcher)) => {
                self.watchers.insert(watch_id, watcher);
                WatchResponse {
                    watch_id,
                    created: true,
                    ..WatchResponse::default()
                }
            }
            Err(reason) => WatchResponse {
                watch_id: NO_WATCHER,
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..WatchResponse::default()
            },
        };
        self.send(committed, response).await
    }

    fn watcher(&mut self, request: WatchCreateRequest, committed: i64) -> Result<(i64, Watcher), &'static str> {
        // As etcd: an empty key means the first possible.
        let key = if request.key.is_empty() {
            Bytes::from_static(&[0])
        } else {
            request.key
        };
        let keys = Keys::new(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&request.range_end));
        if matches!(&keys, Keys::Range(start, end) if start >= end) {
            return Err("mvcc: watcher range is empty");
        }
        if request.watch_id != 0 && self.watchers.contains_key(&request.watch_id) {
            return Err("mvcc: duplicate watch ID provided on the WatchStream");
        }
        let permit = self
            .service
            .watchers
            .clone()
            .try_acquire_owned()
            .map_err(|_| "etcdserver: too many requests")?;
        let watch_id = if request.watch_id == 0 {
            self.free_id()
        } else {
            request.watch_id
        };
        let filtered = |filter: FilterType| request.filters.contains(&i32::from(filter));
        let interest = Interest {
            keys,
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            previous: request.prev_kv,
        };
        let next = if request.start_revision == 0 {
            committed + 1
        } else {
            request.start_revision
        };
        Ok((
            watch_id,
            Watcher {
                interest,
                next,
                progress: request.progress_notify,
                _permit: permit,
            },
        ))
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    async fn tell_progress(&mut self) -> Result<(), Ended> {
        self.catch_up().await?;
        let committed = self.committed();
        let told = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.progress && watcher.next > committed);
        let ids: Vec<i64> = told.map(|(id, _)| *id).collect();
        for watch_id in ids {
            self.send(
                committed,
                WatchResponse {
                    watch_id,
                    ..WatchResponse::default()
                },
            )
            .await?;
        }
        Ok(())
    }
}
