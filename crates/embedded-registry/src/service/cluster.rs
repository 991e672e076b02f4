//! What `etcdctl endpoint status`, `endpoint health` and `member list` ask, and the answer to those who would log in.

use tonic::{Request, Response, Status};

use super::Service;
use crate::{
    error::Error,
    pb::etcdserverpb::{
        AlarmRequest, AlarmResponse, AuthenticateRequest, AuthenticateResponse, Member, MemberListRequest,
        MemberListResponse, StatusRequest, StatusResponse, alarm_request::AlarmAction, auth_server::Auth,
        cluster_server::Cluster, maintenance_server::Maintenance,
    },
};

/// The etcd whose API this server follows.
const API_VERSION: &str = "3.4.23";
const MEMBER_NAME: &str = "understudy";

#[tonic::async_trait]
impl Cluster for Service {
    async fn member_list(&self, _request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        let url = format!("http://{}", self.identity.address);
        let member = Member {
            id: self.identity.member(),
            name: MEMBER_NAME.to_owned(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: vec![url],
            is_learner: false,
        };
        Ok(Response::new(MemberListResponse {
            header: self.header_now(),
            members: vec![member],
        }))
    }
}

#[tonic::async_trait]
impl Maintenance for Service {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        if request.into_inner().action() == AlarmAction::Activate {
            return Err(Status::unimplemented("the embedded registry has no alarms"));
        }
        Ok(Response::new(AlarmResponse {
            header: self.header_now(),
            alarms: Vec::new(),
        }))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let file = tokio::fs::metadata(self.identity.data_dir.join(crate::storage::FILE)).await;
        let db_size = file.map_or(0, |file| i64::try_from(file.len()).unwrap_or(i64::MAX));
        let (bytes, revision) = {
            let state = self.state.read();
            (state.mvcc.bytes(), state.committed)
        };
        let index = revision.unsigned_abs();
        Ok(Response::new(StatusResponse {
            header: self.header(revision),
            version: API_VERSION.to_owned(),
            db_size,
            leader: self.identity.member(),
            raft_index: index,
            raft_term: 1,
            raft_applied_index: index,
            errors: Vec::new(),
            db_size_in_use: i64::try_from(bytes).unwrap_or(i64::MAX),
            is_learner: false,
            storage_version: String::new(),
            db_size_quota: i64::try_from(crate::ops::STORE_BYTES_MAX).unwrap_or(i64::MAX),
        }))
    }
}

#[tonic::async_trait]
impl Auth for Service {
    async fn authenticate(
        &self,
        _request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Err(Error::AuthNotEnabled.into())
    }
}
