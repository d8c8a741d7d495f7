//! Secrets and configs.

use std::collections::BTreeMap;

use coracle_manager_core::Change;
use coracle_manager_core::state::State;
use coracle_model::cluster::Secret;
use coracle_model::id::FileId;
use coracle_model::secret::{Content, File, FileKind, FileName};
use coracle_model::version::Version;
use coracle_model::{template, validate};
use coracle_proto::convert::file::file_kind;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::files_server::Files;
use tonic::{Request, Response, Status};

use super::{actor, idempotency, resolve};
use crate::store::{Store, Write, now};

/// The service over secrets and configs.
#[derive(Debug, Clone)]
pub struct FilesApi(pub Store);

impl FilesApi {
    fn shown(&self, id: FileId) -> Result<v1::File, ApiError> {
        let view = self.0.view();
        Ok((&**view.file(id).ok_or_else(|| gone(id))?).into())
    }
}

fn gone(id: FileId) -> ApiError {
    ApiError::new(Reason::NotFound, format!("secret or config {id} was removed meanwhile"))
}

/// Checks what a secret or a config is to contain; never says what it is.
fn content(kind: FileKind, name: &str, data: &[u8], has_placeholders: bool) -> Result<Secret, ApiError> {
    let invalid = |problem: String| ApiError::new(Reason::Invalid, format!("{kind} {name:?}: {problem}"));
    if data.is_empty() {
        return Err(invalid(format!("it is empty; a {kind} contains at least one byte")));
    }
    if data.len() >= kind.limit() {
        let problem =
            format!("{} bytes are too many; a {kind} is smaller than {} bytes", data.len(), kind.limit());
        return Err(invalid(problem));
    }
    if has_placeholders {
        template::file::of_content(kind, data).map_err(|error| invalid(error.to_string()))?;
    }
    Ok(Secret::new(data.to_vec()))
}

/// The object as `inspect` shows it: what a config contains is no secret.
fn inspected(file: &File) -> v1::File {
    let mut shown = v1::File::from(file);
    if file.kind == FileKind::Config {
        for (message, content) in shown.contents.iter_mut().zip(file.contents.values()) {
            message.data = content.data.reveal().to_vec().into();
        }
    }
    shown
}

fn users(view: &State, id: FileId) -> Vec<String> {
    view.services_with_file(id).into_iter().map(str::to_owned).collect()
}

#[tonic::async_trait]
impl Files for FilesApi {
    async fn create(
        &self,
        request: Request<v1::CreateFileRequest>,
    ) -> Result<Response<v1::CreateFileResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let key = idempotency(&request.idempotency_key)?;
        let view = self.0.barrier().await?;
        if let Some((key, version)) = key.and_then(|key| Some((key, view.applied_at(key)?))) {
            let file = Some(self.shown(FileId::from_bits(key.bits()))?);
            return Ok(Response::new(v1::CreateFileResponse { file, version }));
        }
        let kind = file_kind(request.kind).map_err(ApiError::from)?;
        let name: FileName =
            request.name.parse().map_err(|error| ApiError::new(Reason::Invalid, format!("{error}")))?;
        let labels: BTreeMap<_, _> = request.labels.into_iter().collect();
        validate::labels("label", &labels).map_err(ApiError::from)?;
        let at = now();
        let data = content(kind, name.as_str(), &request.data, request.template)?;
        let id = FileId::from_bits(key.map_or_else(rand::random, |key| key.bits()));
        let file = File {
            id,
            kind,
            version: Version::default(),
            created_at: at,
            updated_at: at,
            name,
            labels,
            template: request.template,
            contents: BTreeMap::from([(1, Content { created_at: at, data })]),
        };
        let changes = vec![Change::CreateFile(file.clone())];
        let write = Write { changes, actor, reason: "file create", idempotency: key, term: 0 };
        let version = self.0.propose(write).await?;
        tracing::info!(%kind, name = %file.name, %id, "file created");
        let file = self.shown(id).unwrap_or_else(|_| (&File { version, ..file }).into());
        Ok(Response::new(v1::CreateFileResponse { file: Some(file), version: version.index() }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateFileRequest>,
    ) -> Result<Response<v1::UpdateFileResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let key = idempotency(&request.idempotency_key)?;
        let kind = file_kind(request.kind).map_err(ApiError::from)?;
        let view = self.0.barrier().await?;
        let present = resolve::file(&view, kind, &request.file)?;
        if let Some(version) = key.and_then(|key| view.applied_at(key)) {
            let file = Some(self.shown(present.id)?);
            return Ok(Response::new(v1::UpdateFileResponse { file, version }));
        }
        let mut labels = present.labels.clone();
        labels.retain(|label, _| !request.labels_removed.contains(label));
        labels.extend(request.labels_set);
        validate::labels("label-add", &labels).map_err(ApiError::from)?;
        let labels = (labels != present.labels).then_some(labels);
        let data = request
            .data
            .map(|data| content(kind, present.name.as_str(), &data, present.template))
            .transpose()?;
        // Labels are made of those that were read; a version alone is added to whatever there is.
        let expected = if labels.is_some() { present.version } else { Version::default() };
        let changes = vec![Change::UpdateFile { file: present.id, expected, labels, data }];
        let write = Write { changes, actor, reason: "file update", idempotency: key, term: 0 };
        let version = self.0.propose(write).await?;
        let file = self.shown(present.id).unwrap_or_else(|_| (&*present).into());
        Ok(Response::new(v1::UpdateFileResponse { file: Some(file), version: version.index() }))
    }

    async fn get(
        &self,
        request: Request<v1::GetFileRequest>,
    ) -> Result<Response<v1::GetFileResponse>, Status> {
        let kind = file_kind(request.get_ref().kind).map_err(ApiError::from)?;
        let view = self.0.barrier().await?;
        let file = resolve::file(&view, kind, &request.get_ref().file)?;
        let services = users(&view, file.id);
        let (file, index) = (Some(inspected(&file)), view.index());
        Ok(Response::new(v1::GetFileResponse { file, services, index }))
    }

    async fn list(
        &self,
        request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<v1::ListFilesResponse>, Status> {
        let kind = file_kind(request.get_ref().kind).map_err(ApiError::from)?;
        let view = self.0.barrier().await?;
        let item = |file: &std::sync::Arc<File>| v1::FileListItem {
            file: Some((&**file).into()),
            services: users(&view, file.id),
        };
        let files = view.files().filter(|file| file.kind == kind).map(item).collect();
        Ok(Response::new(v1::ListFilesResponse { files, index: view.index() }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveFileRequest>,
    ) -> Result<Response<v1::RemoveFileResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let idempotency = idempotency(&request.idempotency_key)?;
        let kind = file_kind(request.kind).map_err(ApiError::from)?;
        let view = self.0.barrier().await?;
        if let Some(version) = idempotency.and_then(|key| view.applied_at(key)) {
            return Ok(Response::new(v1::RemoveFileResponse { id: request.file, version }));
        }
        let file = resolve::file(&view, kind, &request.file)?;
        let change = Change::RemoveFile { file: file.id, expected: Version::default() };
        let write = Write { changes: vec![change], actor, reason: "file rm", idempotency, term: 0 };
        let version = self.0.propose(write).await?.index();
        Ok(Response::new(v1::RemoveFileResponse { id: file.id.to_string(), version }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_a_content_names_the_object_and_nothing_of_the_content() {
        let told = |kind, data: &[u8], has_placeholders| {
            content(kind, "key", data, has_placeholders)
                .map_or_else(|error| error.message, |_| "fine".to_owned())
        };
        assert_eq!(told(FileKind::Secret, b"canary", false), "fine");
        assert_eq!(told(FileKind::Secret, b"{{.Task.Nope}}", false), "fine");
        assert_eq!(told(FileKind::Config, b"{{.Task.Slot}}", true), "fine");
        assert_eq!(
            told(FileKind::Secret, b"", false),
            "secret \"key\": it is empty; a secret contains at least one byte"
        );
        assert_eq!(
            told(FileKind::Secret, &vec![0; 512_000], false),
            "secret \"key\": 512000 bytes are too many; a secret is smaller than 512000 bytes"
        );
        assert_eq!(
            told(FileKind::Config, b"\xff", true),
            "config \"key\": what has placeholders is text in UTF-8; make one that is delivered as it is without \
             --template-driver"
        );
        let id = FileId::from_bits(7);
        assert_eq!(gone(id).message, format!("secret or config {id} was removed meanwhile"));
        let wrong = told(FileKind::Secret, b"x{{canary}}", true);
        assert!(
            wrong.starts_with("secret \"key\": at character 2: what stands there is not known; what can"),
            "{wrong}"
        );
    }
}
