//! Images: archives are taken into this manager's store, their names into the replicated table.

use std::io::{self, Read};
use std::sync::Arc;

use coracle_image::{ErrorClass, ImageError, ImageRecord, ImageStore};
use coracle_manager_core::{Change, State};
use coracle_model::digest::Digest;
use coracle_model::image::ImageEntry;
use coracle_model::image_ref::ImageReference;
use coracle_model::node::Platform;
use coracle_model::service::Service;
use coracle_model::version::Version;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::images_server::Images;
use coracle_proto::v1::load_image_request::Part;
use prost::bytes::{Buf, Bytes};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use super::actor;
use crate::dispatcher::Dispatcher;
use crate::manager::ImagesChanged;
use crate::rpc::forward::{self, Destination};
use crate::rpc::peers::Peers;
use crate::store::{Decision, Store, Write, now};

/// Pieces of an archive between the network and the disk.
const PIECES: usize = 16;

/// The API over images.
#[derive(Debug, Clone)]
pub struct ImagesApi {
    store: Store,
    dispatcher: Arc<Dispatcher>,
    images: Arc<ImageStore>,
    changed: ImagesChanged,
    peers: Peers,
}

impl ImagesApi {
    /// The API over this state and this node's store.
    #[must_use]
    pub const fn new(
        store: Store,
        dispatcher: Arc<Dispatcher>,
        images: Arc<ImageStore>,
        changed: ImagesChanged,
        peers: Peers,
    ) -> Self {
        Self { store, dispatcher, images, changed, peers }
    }

    /// Writes names to the table, through the leader if that is another manager.
    async fn register(
        &self,
        actor: String,
        images: Vec<v1::ImageEntry>,
    ) -> Result<v1::RegisterImagesResponse, ApiError> {
        match forward::destination(self.store.raft()).await? {
            Destination::Here => self.write(actor, images).await,
            Destination::Leader(address) => {
                let mut client = v1::images_client::ImagesClient::new(self.peers.kept(&address)?);
                let request = v1::RegisterImagesRequest { images, actor };
                let response =
                    client.register(request).await.map_err(|status| ApiError::from_status(&status))?;
                Ok(response.into_inner())
            }
        }
    }

    async fn write(
        &self,
        actor: String,
        images: Vec<v1::ImageEntry>,
    ) -> Result<v1::RegisterImagesResponse, ApiError> {
        let entries: Vec<ImageEntry> =
            images.into_iter().map(ImageEntry::try_from).collect::<Result<_, _>>().map_err(ApiError::from)?;
        let changes = entries.iter().cloned().map(Change::PutImage).collect();
        let write = Write { changes, actor, reason: "image load", idempotency: None, term: 0 };
        let version = self.store.propose(write).await?.index();
        let view = self.store.view();
        let written = |entry: &ImageEntry| view.image(&entry.name).map(|entry| (&**entry).into());
        let images = entries.iter().filter_map(written).collect();
        Ok(v1::RegisterImagesResponse { images, version })
    }
}

fn entries(records: &[ImageRecord]) -> Vec<v1::ImageEntry> {
    let entry = |record: &ImageRecord, name: &ImageReference| ImageEntry {
        name: name.without_digest().canonical(),
        version: Version::default(),
        digest: record.manifest,
        size: record.size,
        platform: Platform {
            os: record.platform.os.clone(),
            architecture: record.platform.architecture.clone(),
        },
        created_at: now(),
    };
    records
        .iter()
        .flat_map(|record| record.names.iter().map(move |name| (&entry(record, name)).into()))
        .collect()
}

fn image_error(error: &ImageError) -> ApiError {
    let reason = match error.class() {
        ErrorClass::BadInput => Reason::Invalid,
        ErrorClass::Absent => Reason::NotFound,
        ErrorClass::Input => Reason::Unavailable,
        ErrorClass::NoSpace => Reason::Exhausted,
        ErrorClass::Busy | ErrorClass::Io => Reason::Internal,
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    ApiError::new(reason, message)
}

/// An archive as it arrives, for a reader that blocks.
struct Arriving {
    pieces: mpsc::Receiver<Result<Bytes, Status>>,
    piece: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(status)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        status.message().to_owned(),
                    ));
                }
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Passes the pieces of the request on, until it ends or nobody reads any more.
async fn pump(mut stream: Streaming<v1::LoadImageRequest>, pieces: mpsc::Sender<Result<Bytes, Status>>) {
    loop {
        let piece = match stream.message().await {
            Ok(Some(v1::LoadImageRequest { part: Some(Part::Data(data)) })) => Ok(data),
            Ok(Some(_)) => Err(Status::invalid_argument("a header after the beginning")),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let last = piece.is_err();
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}

fn take(
    images: &ImageStore,
    import_as: Option<ImageReference>,
    archive: Arriving,
) -> Result<Vec<ImageRecord>, ApiError> {
    let taken = match import_as {
        None => images.load_archive(archive),
        Some(name) => images.import_rootfs(archive, &name, &[]).map(|record| vec![record]),
    };
    taken.map_err(|error| image_error(&error))
}

/// Who uses an image, for a message.
fn users(state: &State, digest: Digest) -> String {
    let uses =
        |service: &&Arc<Service>| service.spec.task.container.images().any(|image| image.digest == digest);
    let names: Vec<&str> = state.services().filter(uses).map(|service| service.spec.name.as_str()).collect();
    match names.as_slice() {
        [] => "tasks of a service that is being removed or updated".to_owned(),
        [only] => format!("the service {only}"),
        several => format!("the services {}", several.join(", ")),
    }
}

/// The entry of an image whose name may be taken away.
fn removable(
    view: &State,
    reference: &ImageReference,
    request: &v1::RemoveImageRequest,
) -> Result<Arc<ImageEntry>, ApiError> {
    let name = &request.name;
    let entry = view.image(&reference.canonical()).cloned().ok_or_else(|| {
        ApiError::new(Reason::NotFound, format!("no image {name:?}")).with_hint("see `coracle image ls`")
    })?;
    if view.is_image_used(entry.digest) && !request.force {
        let message = format!("image {name:?} is used by {}", users(view, entry.digest));
        let hint = "remove or update the service first, or use --force: running tasks keep the image";
        return Err(ApiError::new(Reason::Forbidden, message).with_hint(hint));
    }
    Ok(entry)
}

fn nameless() -> ApiError {
    let hint = "save it with a name (docker save NAME:TAG), or import a root file system with `coracle image import`";
    ApiError::new(Reason::Invalid, "the archive names no image").with_hint(hint)
}

fn item(view: &State, dispatcher: &Dispatcher, entry: &ImageEntry) -> v1::ImageListItem {
    let holders = dispatcher.term().map_or(0, |term| term.registry.holders(entry.digest).len());
    v1::ImageListItem {
        image: Some(entry.into()),
        holders: u32::try_from(holders).unwrap_or(u32::MAX),
        in_use: view.is_image_used(entry.digest),
    }
}

#[tonic::async_trait]
impl Images for ImagesApi {
    async fn load(
        &self,
        request: Request<Streaming<v1::LoadImageRequest>>,
    ) -> Result<Response<v1::LoadImageResponse>, Status> {
        let actor = actor(&request);
        let mut stream = request.into_inner();
        let header = match stream.message().await? {
            Some(v1::LoadImageRequest { part: Some(Part::Header(header)) }) => header,
            _ => {
                return Err(ApiError::new(Reason::Invalid, "the request does not begin with a header").into());
            }
        };
        let import_as = match header.import_as.as_str() {
            "" => None,
            text => Some(
                ImageReference::parse_tagged(text)
                    .map_err(|error| ApiError::new(Reason::Invalid, format!("name: {error}")))?,
            ),
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(pump(stream, sender));
        let images = Arc::clone(&self.images);
        let archive = Arriving { pieces, piece: Bytes::new() };
        let records = tokio::task::spawn_blocking(move || take(&images, import_as, archive)).await.map_err(
            |error| ApiError::new(Reason::Internal, format!("taking the archive failed: {error}")),
        )??;
        (self.changed.0)();
        let entries = entries(&records);
        if entries.is_empty() {
            return Err(nameless().into());
        }
        for entry in &entries {
            info!(name = entry.name, digest = entry.digest, "image loaded");
        }
        let v1::RegisterImagesResponse { images, version } = self.register(actor, entries).await?;
        Ok(Response::new(v1::LoadImageResponse { images, version }))
    }

    async fn register(
        &self,
        request: Request<v1::RegisterImagesRequest>,
    ) -> Result<Response<v1::RegisterImagesResponse>, Status> {
        let v1::RegisterImagesRequest { images, actor } = request.into_inner();
        Ok(Response::new(self.write(actor, images).await?))
    }

    async fn list(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let view = self.store.barrier().await?;
        let images = view.images().map(|entry| item(&view, &self.dispatcher, entry)).collect();
        Ok(Response::new(v1::ListImagesResponse { images, index: view.index() }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let reference: ImageReference = request
            .name
            .parse()
            .map_err(|error| ApiError::new(Reason::Invalid, format!("image: {error}")))?;
        let decided = self.store.decide(|view| {
            let entry = removable(view, &reference, &request)?;
            let write = Write {
                changes: vec![Change::RemoveImage { name: entry.name.clone() }],
                actor: actor.clone(),
                reason: "image rm",
                idempotency: None,
                term: 0,
            };
            Ok(Decision::Write(write, entry))
        });
        let (version, entry) = decided.await?;
        let version = version.index();
        Ok(Response::new(v1::RemoveImageResponse {
            name: entry.name.clone(),
            digest: entry.digest.to_string(),
            version,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{DIGEST, image, service, state, told};
    use super::*;

    #[test]
    fn every_refusal_says_who_uses_the_image_and_what_to_do() {
        let removed = |changes: Vec<Change>, name: &str, force| {
            let view = state(changes);
            let request = v1::RemoveImageRequest { name: name.to_owned(), force };
            told(removable(&view, &name.parse().unwrap(), &request))
        };
        let create = |bits, name| Change::CreateService(Box::new(service(bits, name)));
        let put = || Change::PutImage(image());
        assert_eq!(removed(vec![put()], "web:1", false), "fine");
        assert_eq!(removed(vec![put()], "web:2", false), "no image \"web:2\"\nhint: see `coracle image ls`");
        let used = vec![put(), create(1, "web")];
        assert_eq!(
            removed(used.clone(), "web:1", false),
            "image \"web:1\" is used by the service web\nhint: remove or update the service first, or use --force: running tasks \
             keep the image"
        );
        assert_eq!(removed(used, "web:1", true), "fine");
        let several = removed(vec![put(), create(1, "web"), create(2, "db")], "web:1", false);
        assert!(several.starts_with("image \"web:1\" is used by the services "), "{several}");
        assert_eq!(users(&State::default(), DIGEST), "tasks of a service that is being removed or updated");
        assert_eq!(
            told::<()>(Err(nameless())),
            "the archive names no image\nhint: save it with a name (docker save NAME:TAG), or import a root file system with \
             `coracle image import`"
        );
    }
}
