//! etcd's operations on the store: their checks and their meaning.

use std::{cmp::Ordering, collections::BTreeSet};

use prost::bytes::Bytes;

use crate::{
    error::Error,
    lease::Leases,
    mvcc::{Keys, Mvcc, Writing},
    pb::{
        etcdserverpb::{
            Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
            RequestOp, ResponseHeader, ResponseOp, TxnRequest,
            compare::{CompareResult, CompareTarget, TargetUnion},
            range_request::{SortOrder, SortTarget},
            request_op::Request,
            response_op::Response,
        },
        mvccpb::KeyValue,
    },
};

/// Compares, and operations of each branch, of one transaction; as etcd.
const TXN_OPS_MAX: usize = 128;
/// Bytes of all keys and values that are kept, with their history, about.
pub(crate) const STORE_BYTES_MAX: usize = 512 * 1024 * 1024;

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

pub(crate) fn check_range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(Error::InvalidSortOption) }
}

/// Reads with `current` as the latest revision.
pub(crate) fn range(mvcc: &Mvcc, request: &RangeRequest, current: i64) -> Result<RangeResponse, Error> {
    let revision = checked_revision(mvcc, request, current)?;
    let keys = Keys::new(request.key.clone(), request.range_end.clone());
    let mut response = RangeResponse {
        header: header(current),
        ..RangeResponse::default()
    };
    if request.count_only {
        response.count = count(mvcc.range(&keys, revision).count());
        return Ok(response);
    }
    let min = |bound: i64, value: i64| bound == 0 || value >= bound;
    let max = |bound: i64, value: i64| bound == 0 || value <= bound;
    let wanted = |kv: &&KeyValue| {
        min(request.min_mod_revision, kv.mod_revision)
            && max(request.max_mod_revision, kv.mod_revision)
            && min(request.min_create_revision, kv.create_revision)
            && max(request.max_create_revision, kv.create_revision)
    };
    let mut found = 0;
    let mut kvs: Vec<&KeyValue> = mvcc
        .range(&keys, revision)
        .inspect(|_| found += 1)
        .filter(wanted)
        .collect();
    // As etcd: all keys of the range, whatever the filters and the limit.
    response.count = count(found);

    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    let order = match SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None) {
        SortOrder::None if target != SortTarget::Key => SortOrder::Ascend,
        order => order,
    };
    if order != SortOrder::None {
        let compare = |a: &&KeyValue, b: &&KeyValue| match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match order {
            SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
            SortOrder::Ascend | SortOrder::None => kvs.sort_by(compare),
        }
    }
    if let Ok(limit @ 1..) = usize::try_from(request.limit)
        && kvs.len() > limit
    {
        kvs.truncate(limit);
        response.more = true;
    }
    let value = |kv: &KeyValue| {
        if request.keys_only {
            Bytes::new()
        } else {
            kv.value.clone()
        }
    };
    response.kvs = kvs
        .into_iter()
        .map(|kv| KeyValue {
            value: value(kv),
            ..kv.clone()
        })
        .collect();
    Ok(response)
}

fn count(keys: usize) -> i64 {
    i64::try_from(keys).unwrap_or(i64::MAX)
}

fn checked_revision(mvcc: &Mvcc, request: &RangeRequest, current: i64) -> Result<i64, Error> {
    let revision = if request.revision <= 0 {
        current
    } else {
        request.revision
    };
    match revision {
        _ if revision > current => Err(Error::FutureRevision),
        _ if revision < mvcc.compacted() => Err(Error::Compacted),
        _ => Ok(revision),
    }
}

pub(crate) fn check_put(request: &PutRequest) -> Result<(), Error> {
    match request {
        _ if request.key.is_empty() => Err(Error::EmptyKey),
        _ if request.ignore_value && !request.value.is_empty() => Err(Error::ValueProvided),
        _ if request.ignore_lease && request.lease != 0 => Err(Error::LeaseProvided),
        _ => Ok(()),
    }
}

/// What a put needs from the store as it is.
pub(crate) fn check_put_against(mvcc: &Mvcc, leases: &Leases, request: &PutRequest) -> Result<(), Error> {
    if (request.ignore_value || request.ignore_lease) && mvcc.get(&request.key, i64::MAX).is_none() {
        return Err(Error::KeyNotFound);
    }
    if request.lease != 0 && !leases.exists(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    if mvcc.bytes() > STORE_BYTES_MAX {
        return Err(Error::NoSpace);
    }
    Ok(())
}

pub(crate) fn put(writing: &mut Writing<'_>, leases: &mut Leases, request: &PutRequest) -> PutResponse {
    let before = writing.mvcc().get(&request.key, i64::MAX);
    let (old_value, old_lease) = before.map_or_else(Default::default, |kv| (kv.value.clone(), kv.lease));
    let value = if request.ignore_value {
        old_value
    } else {
        request.value.clone()
    };
    let lease = if request.ignore_lease { old_lease } else { request.lease };
    let before = writing.put(&request.key, value, lease);
    if old_lease != lease {
        leases.detach(old_lease, &request.key);
        leases.attach(lease, &Bytes::copy_from_slice(&request.key));
    }
    PutResponse {
        header: header(writing.revision()),
        prev_kv: before.filter(|_| request.prev_kv),
    }
}

pub(crate) fn delete(
    writing: &mut Writing<'_>,
    leases: &mut Leases,
    request: &DeleteRangeRequest,
) -> DeleteRangeResponse {
    let before = writing.delete(&Keys::new(request.key.clone(), request.range_end.clone()));
    for kv in &before {
        leases.detach(kv.lease, &kv.key);
    }
    DeleteRangeResponse {
        header: header(writing.revision()),
        deleted: count(before.len()),
        prev_kvs: if request.prev_kv { before } else { Vec::new() },
    }
}

/// What can be refused without looking at the store.
pub(crate) fn check_txn(request: &TxnRequest) -> Result<(), Error> {
    let lengths = [request.compare.len(), request.success.len(), request.failure.len()];
    if lengths.iter().any(|ops| *ops > TXN_OPS_MAX) {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    check_branch(&request.success)?;
    check_branch(&request.failure)
}

fn check_branch(ops: &[RequestOp]) -> Result<(), Error> {
    let mut puts: BTreeSet<&Bytes> = BTreeSet::new();
    let mut deleted = Vec::new();
    for op in ops {
        match &op.request {
            None => return Err(Error::KeyNotFound),
            Some(Request::RequestRange(request)) => check_range(request)?,
            Some(Request::RequestPut(request)) => {
                check_put(request)?;
                if !puts.insert(&request.key) {
                    return Err(Error::DuplicateKey);
                }
            }
            Some(Request::RequestDeleteRange(request)) => {
                if request.key.is_empty() {
                    return Err(Error::EmptyKey);
                }
                deleted.push(Keys::new(request.key.clone(), request.range_end.clone()));
            }
            Some(Request::RequestTxn(_)) => return Err(Error::NestedTxn),
        }
    }
    let overlap = puts.iter().any(|key| deleted.iter().any(|keys| keys.contains(key)));
    if overlap { Err(Error::DuplicateKey) } else { Ok(()) }
}

/// Checks a branch against the store, so that carrying it out cannot fail half-way.
pub(crate) fn check_branch_against(mvcc: &Mvcc, leases: &Leases, ops: &[RequestOp]) -> Result<(), Error> {
    for op in ops {
        match &op.request {
            Some(Request::RequestPut(request)) => check_put_against(mvcc, leases, request)?,
            Some(Request::RequestRange(request)) => {
                checked_revision(mvcc, request, mvcc.revision())?;
            }
            Some(Request::RequestDeleteRange(_) | Request::RequestTxn(_)) | None => {}
        }
    }
    Ok(())
}

pub(crate) fn carry_out(
    writing: &mut Writing<'_>,
    leases: &mut Leases,
    ops: &[RequestOp],
) -> Result<Vec<ResponseOp>, Error> {
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(request)) => {
                Response::ResponseRange(range(writing.mvcc(), request, writing.revision())?)
            }
            Some(Request::RequestPut(request)) => Response::ResponsePut(put(writing, leases, request)),
            Some(Request::RequestDeleteRange(request)) => {
                Response::ResponseDeleteRange(delete(writing, leases, request))
            }
            Some(Request::RequestTxn(_)) | None => return Err(Error::NestedTxn),
        };
        responses.push(ResponseOp {
            response: Some(response),
        });
    }
    Ok(responses)
}

/// Whether a compare holds for all keys that it names; of keys that do not exist, all is 0 and the value equals nothing.
pub(crate) fn holds(mvcc: &Mvcc, compare: &Compare) -> bool {
    let keys = Keys::new(compare.key.clone(), compare.range_end.clone());
    let mut kvs = mvcc.range(&keys, mvcc.revision()).peekable();
    if kvs.peek().is_none() {
        return compare.target() != CompareTarget::Value && holds_for(&KeyValue::default(), compare);
    }
    kvs.all(|kv| holds_for(kv, compare))
}

fn holds_for(kv: &KeyValue, compare: &Compare) -> bool {
    // As etcd: a missing or other operand is the target's default.
    let operand = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let none = Bytes::new();
            kv.value.cmp(if let Some(TargetUnion::Value(value)) = operand {
                value
            } else {
                &none
            })
        }
        Ok(CompareTarget::Version) => kv.version.cmp(if let Some(TargetUnion::Version(version)) = operand {
            version
        } else {
            &0
        }),
        Ok(CompareTarget::Create) => {
            kv.create_revision
                .cmp(if let Some(TargetUnion::CreateRevision(revision)) = operand {
                    revision
                } else {
                    &0
                })
        }
        Ok(CompareTarget::Mod) => kv
            .mod_revision
            .cmp(if let Some(TargetUnion::ModRevision(revision)) = operand {
                revision
            } else {
                &0
            }),
        Ok(CompareTarget::Lease) => kv.lease.cmp(if let Some(TargetUnion::Lease(lease)) = operand {
            lease
        } else {
            &0
        }),
        Err(_) => return false,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        Err(_) => false,
    }
}
