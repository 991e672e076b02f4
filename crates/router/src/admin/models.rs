use std::{collections::BTreeMap, time::SystemTime};

use tonic::{Code, Request, Response, Status};
use understudy_protocol::{
    status::{bad_request, reason},
    v1::{
        GetArtifactStoreRequest, GetArtifactStoreResponse, GetVersionRequest, GetVersionResponse, ListModelsRequest,
        ListModelsResponse, Manifest, ModelSummary, PublishVersionRequest, PublishVersionResponse, Route,
        WorkerResidency, models_server::Models,
    },
};

use super::{Admin, registry_status, validate};

#[tonic::async_trait]
impl Models for Admin {
    async fn get_artifact_store(
        &self,
        _: Request<GetArtifactStoreRequest>,
    ) -> Result<Response<GetArtifactStoreResponse>, Status> {
        Ok(Response::new(GetArtifactStoreResponse {
            uri: self.artifact_store.to_string(),
        }))
    }

    async fn publish_version(
        &self,
        request: Request<PublishVersionRequest>,
    ) -> Result<Response<PublishVersionResponse>, Status> {
        let mut manifest = request
            .into_inner()
            .manifest
            .ok_or_else(|| bad_request("manifest", "is missing"))?;
        validate::manifest(&manifest)?;
        manifest.created_at.get_or_insert_with(|| SystemTime::now().into());
        self.desk
            .registry
            .create_manifest(&manifest)
            .await
            .map_err(|e| registry_status(&e))?;
        tracing::info!(model = manifest.model, version = manifest.version, "version published");
        Ok(Response::new(PublishVersionResponse {}))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let manifests = self
            .desk
            .registry
            .list::<Manifest>()
            .await
            .map_err(|e| registry_status(&e))?;
        let routes = self
            .desk
            .registry
            .list::<Route>()
            .await
            .map_err(|e| registry_status(&e))?;
        let mut models: BTreeMap<String, ModelSummary> = BTreeMap::new();
        for stored in manifests.records.into_values() {
            models
                .entry(stored.value.model.clone())
                .or_default()
                .versions
                .push(stored.value);
        }
        for stored in routes.records.into_values() {
            let model = models.entry(stored.value.model.clone()).or_default();
            model.route = Some(stored.value);
        }
        for (name, model) in &mut models {
            model.model.clone_from(name);
            model
                .versions
                .sort_by_key(|manifest| manifest.created_at.map(|at| (at.seconds, at.nanos)));
        }
        Ok(Response::new(ListModelsResponse {
            models: models.into_values().collect(),
        }))
    }

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        let GetVersionRequest { model, version } = request.into_inner();
        let manifest = self
            .desk
            .registry
            .manifest(&model, &version)
            .await
            .map_err(|e| registry_status(&e))?;
        let manifest = manifest.ok_or_else(|| {
            let message = format!("no version \"{version}\" of \"{model}\" is published; see `understudy models list`");
            reason(Code::NotFound, message, "UNKNOWN_VERSION")
        })?;
        let state = self.desk.state.load();
        let mut workers = Vec::new();
        for worker in state.workers.values() {
            let of_version = |r: &&understudy_protocol::v1::Residency| r.model == model && r.version == version;
            workers.extend(
                worker
                    .record
                    .versions
                    .iter()
                    .filter(of_version)
                    .map(|residency| WorkerResidency {
                        worker: worker.record.worker.clone(),
                        residency: Some(residency.clone()),
                    }),
            );
        }
        Ok(Response::new(GetVersionResponse {
            manifest: Some(manifest),
            workers,
        }))
    }
}
