//! The engine's calls over one connection.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use memmap2::MmapOptions;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request as Call, Status};

use crate::composite::{Bounds, Depth};
use crate::frame::{Frame, Pixels};
use crate::keyframes::Keyframe;
use crate::launch::{self, Endpoint};
use crate::methods;
use crate::requests::{Propagate, ShotSource};
use crate::wire::{self, frame_chunk, picture};

const PROTOCOL: u32 = 1;
const CONNECT: Duration = Duration::from_secs(2);
/// For calls in which the engine reads files.
const READ_FILES: Duration = Duration::from_secs(120);
/// Between two questions for what the engine is still finding out.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// A connection; clones share it.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    token: String,
    local: bool,
}

/// What came of a propagation.
pub struct Created {
    /// Their names; the last is of the method that was asked for.
    pub jobs: Vec<String>,
    /// Which method the engine chose, and why, one sentence; empty where the user did.
    pub why: String,
}

/// What an engine has when the connection is made.
pub struct Catalogue {
    pub jobs: Vec<String>,
    pub shots: Vec<wire::Shot>,
}

impl Client {
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, String> {
        let to = if endpoint.address.starts_with("unix:") {
            tonic::transport::Endpoint::from_shared(endpoint.address.clone()).map_err(|error| error.to_string())?
        } else {
            let uri = tonic::codegen::http::Uri::builder().scheme("http").authority(endpoint.address.as_str());
            tonic::transport::Endpoint::from(uri.path_and_query("/").build().map_err(|error| error.to_string())?)
        };
        let to = to.connect_timeout(CONNECT).tcp_nodelay(true);
        let channel = timeout(CONNECT, to.connect()).await.map_err(|error| error.to_string())?;
        let local = launch::is_local(&endpoint.address);
        channel.map(|channel| Self { channel, token: endpoint.token.clone(), local }).map_err(|error| error.to_string())
    }

    fn call<T>(&self, message: T) -> Call<T> {
        let mut call = Call::new(message);
        let header = format!("Bearer {}", self.token).parse();
        if let Ok(header) = header {
            call.metadata_mut().insert("authorization", header);
        }
        call.metadata_mut().insert("paintover-protocol", PROTOCOL.into());
        call
    }

    /// Checks the protocol, and learns what methods, shots and jobs there are. An error is one sentence.
    pub async fn handshake(&self) -> Result<Catalogue, String> {
        let failed = |status: Status| sentence(&status);
        let found = self.engine().await.map_err(failed)?;
        if found.protocol != PROTOCOL {
            return Err(format!(
                "Engine {} speaks protocol {} and this effect {PROTOCOL}; update the older of the two.",
                found.version, found.protocol
            ));
        }
        let mut engines = wire::engine_service_client::EngineServiceClient::new(self.channel.clone());
        let methods = engines.list_methods(self.call(wire::ListMethodsRequest {})).await.map_err(failed)?.into_inner();
        methods::store(&methods);
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let shots = shots.list_shots(self.call(wire::ListShotsRequest {})).await.map_err(failed)?.into_inner().shots;
        let mut jobs = wire::job_service_client::JobServiceClient::new(self.channel.clone());
        let jobs = jobs.list_jobs(self.call(wire::ListJobsRequest {})).await.map_err(failed)?.into_inner().jobs;
        Ok(Catalogue { jobs: jobs.into_iter().map(|job| job.name).collect(), shots })
    }

    async fn engine(&self) -> Result<wire::Engine, Status> {
        let mut engines = wire::engine_service_client::EngineServiceClient::new(self.channel.clone());
        let answer = engines.get_engine(self.call(wire::GetEngineRequest {})).await?.into_inner();
        Ok(answer.engine.unwrap_or_default())
    }

    pub async fn is_there(&self) -> bool {
        self.engine().await.is_ok()
    }

    /// What the method "best" is, once the engine has tried this machine's GPUs.
    pub async fn best(&self) -> Result<wire::Final, Status> {
        loop {
            let found = self.engine().await?.r#final.unwrap_or_default();
            if found.sure {
                return Ok(found);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The changes of all jobs, beginning with their present states; ends with the connection. Does not wait for the call's
    /// first answer, which comes with the first change.
    pub fn watch(&self) -> Receiver<wire::WatchJobsResponse> {
        let (sender, changes) = tokio::sync::mpsc::channel(16);
        let mut jobs = wire::job_service_client::JobServiceClient::new(self.channel.clone());
        let call = self.call(wire::WatchJobsRequest { job: String::new(), from_sequence: 0 });
        tokio::spawn(async move {
            let Ok(answer) = jobs.watch_jobs(call).await else { return };
            let mut stream = answer.into_inner();
            while let Ok(Some(change)) = stream.message().await {
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        });
        changes
    }

    pub async fn get_shot(&self, name: String) -> Result<wire::Shot, Status> {
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let answer = shots.get_shot(self.call(wire::GetShotRequest { name })).await?.into_inner();
        answer.shot.ok_or_else(|| Status::not_found("The engine knows no such shot."))
    }

    pub async fn cancel(&self, name: String) -> Result<(), Status> {
        let mut jobs = wire::job_service_client::JobServiceClient::new(self.channel.clone());
        jobs.cancel_job(self.call(wire::CancelJobRequest { name })).await.map(|_| ())
    }

    pub async fn create_shot(&self, request: wire::CreateShotRequest) -> Result<wire::Shot, Status> {
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let answer = within(READ_FILES, shots.create_shot(self.call(request))).await?.into_inner();
        answer.shot.ok_or_else(|| Status::internal("The engine made no shot."))
    }

    pub async fn upload(&self, frames: Receiver<wire::UploadFramesRequest>) -> Result<u32, Status> {
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let answer = shots.upload_frames(self.call(ReceiverStream::new(frames))).await?;
        Ok(answer.into_inner().frames_stored)
    }

    async fn shot_name(&self, shot: ShotSource) -> Result<String, Status> {
        match shot {
            ShotSource::Existing(name) => Ok(name),
            ShotSource::Create(request) => Ok(self.create_shot(request).await?.name),
        }
    }

    async fn put_keyframe(&self, shot: &str, keyframe: &Keyframe) -> Result<String, Status> {
        let picture = |path: &String| wire::Picture { from: Some(picture::From::Path(path.clone())) };
        let request = wire::PutKeyframeRequest {
            shot: shot.to_owned(),
            frame: keyframe.frame,
            picture: Some(picture(&keyframe.path)),
            matte: (!keyframe.matte.is_empty()).then(|| picture(&keyframe.matte)),
            ..wire::PutKeyframeRequest::default()
        };
        let mut keyframes = wire::keyframe_service_client::KeyframeServiceClient::new(self.channel.clone());
        let answer = within(READ_FILES, keyframes.put_keyframe(self.call(request))).await?.into_inner();
        answer.keyframe.map(|found| found.name).ok_or_else(|| Status::internal("The engine stored no keyframe."))
    }

    /// Creates the job, its shot and keyframes first. Where the engine is to choose the method and takes one that needs
    /// minutes, a draft goes before it: its frames are there in seconds.
    pub async fn propagate(&self, work: Propagate) -> Result<Created, Status> {
        let shot = self.shot_name(work.shot).await?;
        let mut keyframes = Vec::new();
        for keyframe in work.keyframes.iter() {
            keyframes.push(self.put_keyframe(&shot, keyframe).await?);
        }
        let mut created = Created { jobs: Vec::new(), why: String::new() };
        let parameters_of = |method: &str| work.parameters.get(method).cloned().unwrap_or_default();
        let mut spec = wire::JobSpec {
            shot,
            keyframes,
            parameters: parameters_of(&work.method),
            method: work.method,
            model: work.model,
            owner: work.owner,
            ..wire::JobSpec::default()
        };
        // A model with "best" is left to the engine to refuse.
        if spec.method == methods::BEST && spec.model.is_empty() {
            let best = within(READ_FILES, self.best()).await?;
            if best.method != methods::DRAFT {
                let (method, parameters) = (methods::DRAFT.into(), parameters_of(methods::DRAFT));
                created.jobs.push(self.create_job(wire::JobSpec { method, parameters, ..spec.clone() }).await?);
            }
            let parameters = parameters_of(&best.method);
            spec = wire::JobSpec { method: best.method, model: best.model, parameters, ..spec };
            created.why = best.why;
        }
        created.jobs.push(self.create_job(spec).await?);
        Ok(created)
    }

    async fn create_job(&self, spec: wire::JobSpec) -> Result<String, Status> {
        let mut jobs = wire::job_service_client::JobServiceClient::new(self.channel.clone());
        let request = wire::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let answer = within(READ_FILES, jobs.create_job(self.call(request))).await?.into_inner();
        answer.job.map(|job| job.name).ok_or_else(|| Status::internal("The engine made no job."))
    }

    /// Writes a frame of the plate to a file, unless the file exists.
    pub async fn export_frame(&self, shot: ShotSource, frame: i64, path: String) -> Result<(), Status> {
        let shot = self.shot_name(shot).await?;
        let mut keyframes = wire::keyframe_service_client::KeyframeServiceClient::new(self.channel.clone());
        let request = wire::ExportFrameRequest { shot, frame, path, ..Default::default() };
        within(READ_FILES, keyframes.export_frame(self.call(request))).await.map(|_| ())
    }

    /// One frame of a job's result, or of a shot's plate: mapped where the engine's files are this machine's, else sent.
    pub async fn frame(&self, parent: &str, number: i64, view: wire::View) -> Result<Frame, String> {
        if self.local {
            match self.get_frame(parent, number, view, wire::Transport::Mapped).await {
                Err(FrameError::Unmapped(reason)) => log::warn!("{reason}"),
                Err(FrameError::Refused(status)) => return Err(sentence(&status)),
                Ok(frame) => return Ok(frame),
            }
        }
        self.get_frame(parent, number, view, wire::Transport::Inline).await.map_err(|error| match error {
            FrameError::Refused(status) => sentence(&status),
            FrameError::Unmapped(reason) => reason,
        })
    }

    async fn get_frame(
        &self,
        parent: &str,
        number: i64,
        view: wire::View,
        transport: wire::Transport,
    ) -> Result<Frame, FrameError> {
        let mut frames = wire::frame_service_client::FrameServiceClient::new(self.channel.clone());
        let request = wire::GetFrameRequest {
            parent: parent.into(),
            number,
            view: view.into(),
            transport: transport.into(),
            final_only: false,
        };
        let mut answers = frames.get_frame(self.call(request)).await.map_err(FrameError::Refused)?.into_inner();
        let mut header = None;
        let mut bytes = Vec::new();
        while let Some(answer) = answers.message().await.map_err(FrameError::Refused)? {
            match answer.chunk.and_then(|chunk| chunk.part) {
                Some(frame_chunk::Part::Frame(frame)) => header = Some(frame),
                Some(frame_chunk::Part::Data(data)) => bytes.extend_from_slice(&data),
                None => {}
            }
        }
        let header = header.ok_or_else(|| FrameError::Refused(Status::data_loss("The engine sent no frame.")))?;
        let pixels = match &header.mapped {
            Some(region) if region.length > 0 => Pixels::Mapped(map(region).map_err(FrameError::Unmapped)?),
            _ => Pixels::Inline(bytes),
        };
        let frame = whole_frame(&header, pixels);
        frame.ok_or_else(|| FrameError::Refused(Status::data_loss("The engine sent a frame that is not whole.")))
    }
}

enum FrameError {
    /// The file is not here: the engine runs on another machine, or in a container.
    Unmapped(String),
    Refused(Status),
}

async fn within<T>(most: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(most, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("")))
}

fn map(region: &wire::MappedRegion) -> Result<memmap2::Mmap, String> {
    let failed = |error: std::io::Error| format!("The frame file {} cannot be mapped: {error}.", region.path);
    let file = File::open(Path::new(&region.path)).map_err(failed)?;
    let end = region.offset.saturating_add(region.length);
    if file.metadata().map_err(failed)?.len() < end {
        return Err(format!("The frame file {} is shorter than the engine says.", region.path));
    }
    let length = usize::try_from(region.length).map_err(|error| error.to_string())?;
    // Safety: the engine publishes files whole under a new name and never writes to them again.
    unsafe { MmapOptions::new().offset(region.offset).len(length).map(&file) }.map_err(failed)
}

/// The frame, if its pixels are as many as its header says.
fn whole_frame(header: &wire::Frame, pixels: Pixels) -> Option<Frame> {
    let bounds = header.data_window.unwrap_or_default();
    let bounds = Bounds {
        x: bounds.x as usize,
        y: bounds.y as usize,
        width: bounds.width as usize,
        height: bounds.height as usize,
    };
    let frame = Frame {
        width: header.width as usize,
        height: header.height as usize,
        bounds,
        is_final: header.r#final,
        pixels,
        shot: String::new(),
    };
    (header.channels as usize * 2 == Depth::Half.pixel_bytes() && frame.paint().is_some()).then_some(frame)
}

/// A failed call as one sentence for the user: the engine's own, or one for the gRPC status.
pub fn sentence(status: &Status) -> String {
    match status.code() {
        Code::Unavailable => "The engine went away; try again.".into(),
        Code::DeadlineExceeded => "The engine takes too long to answer.".into(),
        _ if status.message().ends_with(['.', '?']) => status.message().into(),
        code => format!("The engine refused ({code:?}): {}.", status.message()),
    }
}
