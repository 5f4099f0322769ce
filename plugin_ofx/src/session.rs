//! The background thread: finds the engine, stays connected, follows its jobs, fetches frames, carries orders out.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use memmap2::MmapOptions;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request as Call, Status};

use crate::composite::{Depth, Window};
use crate::endpoint::{self, Endpoint};
use crate::engine::{Engine, Frame, Link, Pixels};
use crate::wire::{self, frame_chunk, picture};

const PROTOCOL: u32 = 1;
const LOOK_AGAIN: Duration = Duration::from_millis(300);
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(2);
const READ_FILES: Duration = Duration::from_secs(120);
/// How long a lost engine is looked for before it is called absent, and how seldom one is started.
const GRACE: Duration = Duration::from_secs(5);
const START_AGAIN: Duration = Duration::from_secs(30);
/// How long an order waits for an engine.
const ORDER: Duration = Duration::from_secs(20);

pub enum Request {
    /// A frame of a job.
    Fetch(String, i64),
    Order(Box<Order>),
    Cancel(Vec<String>),
    /// Somebody asks for an engine: one may be started again.
    Wake,
}

/// What a button asks for. `reply` hears one sentence.
pub struct Order {
    pub instance: u64,
    pub work: Work,
    pub reply: SyncSender<Result<String, String>>,
    pub made: Instant,
}

pub enum Work {
    Propagate(Propagate),
    /// Makes the shot of a clip whose frames will be sent; the reply is its name.
    CreateShot(wire::CreateShotRequest),
    /// Sends frames, and propagates once all that were expected are there.
    UploadThen {
        frames: Receiver<wire::UploadFramesRequest>,
        expected: u32,
        then: Box<Propagate>,
    },
}

pub struct Propagate {
    pub shot: From,
    /// Its number and file; else the shot's keyframes as they stand.
    pub keyframe: Option<(i64, String)>,
    pub method: String,
    pub parameters: HashMap<String, String>,
}

pub enum From {
    Shot(String),
    Create(wire::CreateShotRequest),
}

/// The thread's whole life.
pub fn run(engine: Option<&'static Engine>, inbox: UnboundedReceiver<Request>) {
    let Some(engine) = engine else { return };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Session::new(engine, inbox).run()),
        Err(error) => engine.set_link(Link::Absent(format!("Paintover cannot talk to its engine: {error}."))),
    }
}

struct Session {
    engine: &'static Engine,
    inbox: UnboundedReceiver<Request>,
    /// Orders that wait for an engine.
    orders: Vec<Order>,
    started: Option<Instant>,
    lost: Instant,
    /// Somebody pressed a button since the engine was last there.
    asked: bool,
}

impl Session {
    fn new(engine: &'static Engine, inbox: UnboundedReceiver<Request>) -> Self {
        Self { engine, inbox, orders: Vec::new(), started: None, lost: Instant::now(), asked: false }
    }

    async fn run(mut self) {
        loop {
            match self.find() {
                Ok(Some(endpoint)) => match self.serve(&endpoint).await {
                    Ok(()) => self.lost = Instant::now(),
                    Err(trouble) => self.engine.set_link(trouble),
                },
                Ok(None) => self.engine.set_link(Link::Searching),
                Err(reason) => self.engine.set_link(Link::Absent(reason)),
            }
            self.pause().await;
        }
    }

    /// The engine that says it runs. None: one may come any moment.
    fn find(&mut self) -> Result<Option<Endpoint>, String> {
        let folder =
            endpoint::data_folder().ok_or("Paintover's data folder cannot be found: there is no home folder.")?;
        if let Some(endpoint) = endpoint::read(folder) {
            return Ok(Some(endpoint));
        }
        // One that ended in good order has taken its file away, and was perhaps asked to: it is not started again by itself.
        let wanted = self.asked || !self.engine.was_connected() || endpoint::has_crashed(folder);
        let command = endpoint::engine_command(folder).filter(|_| wanted);
        let installed = endpoint::engine_command(folder).is_some();
        let lately = |when: Option<Instant>, most: Duration| when.is_some_and(|when| when.elapsed() < most);
        match command {
            _ if lately(self.started, GRACE * 2) => Ok(None),
            None if self.lost.elapsed() < GRACE && self.engine.was_connected() => Ok(None),
            None if installed => Err("Paintover's engine was stopped; press Propagate to start it again.".into()),
            None => Err(format!(
                "Paintover's engine is not running and not installed (looked in {}); the picture is unchanged.",
                folder.display()
            )),
            Some(_) if lately(self.started, START_AGAIN) => {
                Err("Paintover's engine was started but does not answer; see logs/engine.log in its data folder."
                    .into())
            }
            Some(command) => {
                self.started = Some(Instant::now());
                self.asked = false;
                endpoint::start(folder, &command)
                    .map(|()| None)
                    .map_err(|error| format!("Paintover's engine cannot be started ({}: {error}).", command[0]))
            }
        }
    }

    /// Between two looks: takes requests in, and gives up what waited too long.
    async fn pause(&mut self) {
        let _ = timeout(LOOK_AGAIN, async {
            while let Some(request) = self.inbox.recv().await {
                self.hold(request);
            }
        })
        .await;
        let reason = match self.engine.link() {
            Link::Absent(reason) => Some(reason),
            _ => None,
        };
        let late = |order: &Order| reason.is_some() || order.made.elapsed() > ORDER;
        for order in self.orders.extract_if(.., |order| late(order)) {
            let sentence = reason.clone().unwrap_or_else(|| "The engine does not answer; try again.".into());
            self.engine.set_outcome(order.instance, Some(sentence.clone()));
            let _ = order.reply.send(Err(sentence));
        }
    }

    fn hold(&mut self, request: Request) {
        match request {
            Request::Fetch(job, number) => {
                self.engine.fetched((job, number), 0, 0, Err("The engine is not connected.".into()));
            }
            Request::Order(order) => self.orders.push(*order),
            Request::Wake => self.asked = true,
            Request::Cancel(_) => {}
        }
    }

    /// Stays with one engine until it is lost.
    async fn serve(&mut self, endpoint: &Endpoint) -> Result<(), Link> {
        let silent = |_| Link::Silent;
        let client = Client::connect(endpoint).await.map_err(|_| self.trouble())?;
        let known = timeout(ANSWER, client.shake_hands()).await.map_err(silent)?.map_err(Link::Absent)?;
        if self.engine.link() != Link::Ready {
            self.engine.set_link(Link::Searching);
        }
        self.engine.connected(known.jobs, known.shots, endpoint.monitor.clone());
        let mut jobs = client.watch();
        for order in std::mem::take(&mut self.orders) {
            tokio::spawn(carry_out(self.engine, client.clone(), order));
        }
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                change = jobs.recv() => match change {
                    Some(change) => self.learn(&client, change),
                    None => {
                        self.engine.set_link(Link::Searching);
                        return Ok(());
                    }
                },
                Some(request) = self.inbox.recv() => self.answer(&client, request),
                _ = beat.tick() => if self.engine.link() == Link::Silent {
                    match timeout(ANSWER, client.is_there()).await {
                        Ok(true) => self.engine.set_link(Link::Ready),
                        Ok(false) => return Ok(()),
                        Err(_) => {}
                    }
                },
            }
        }
    }

    /// An engine that says it runs cannot be reached: it is just starting or ending, or it died and its pid is taken.
    fn trouble(&self) -> Link {
        if self.lost.elapsed() < GRACE && self.engine.link() == Link::Searching {
            Link::Searching
        } else {
            Link::Silent
        }
    }

    fn learn(&self, client: &Client, change: wire::WatchJobsResponse) {
        let Some(job) = change.job else { return };
        if let Some(shot) = self.engine.learn(change.sequence, job) {
            let (engine, client) = (self.engine, client.clone());
            tokio::spawn(async move {
                if let Ok(Ok(shot)) = timeout(ANSWER, client.get_shot(shot)).await {
                    engine.learn_shot(shot);
                }
            });
        }
    }

    fn answer(&self, client: &Client, request: Request) {
        let (engine, client) = (self.engine, client.clone());
        match request {
            Request::Fetch(job, number) => {
                tokio::spawn(async move {
                    let key = (job, number);
                    let (connection, sequence) = engine.stamp(&key);
                    let frame = timeout(ANSWER, client.frame(&key.0, number)).await;
                    if frame.is_err() {
                        engine.set_link(Link::Silent);
                    }
                    let frame = frame.unwrap_or_else(|_| Err("The engine does not answer.".into()));
                    engine.fetched(key, connection, sequence, frame);
                });
            }
            Request::Order(order) => {
                tokio::spawn(carry_out(engine, client, *order));
            }
            Request::Wake => {}
            Request::Cancel(jobs) => {
                tokio::spawn(async move {
                    for job in jobs {
                        let _ = timeout(ANSWER, client.cancel(job)).await;
                    }
                });
            }
        }
    }
}

async fn carry_out(engine: &'static Engine, client: Client, order: Order) {
    let instance = order.instance;
    let is_final = !matches!(order.work, Work::CreateShot(_));
    let work = async {
        match order.work {
            Work::Propagate(work) => client.propagate(work).await,
            Work::CreateShot(request) => client.create_shot(request).await.map(|shot| shot.name),
            Work::UploadThen { frames, expected, then } => match client.upload(frames).await {
                Ok(count) if count < expected => {
                    Err(Status::aborted(format!("{count} of {expected} frames were sent; nothing was propagated.")))
                }
                Ok(_) => client.propagate(*then).await,
                Err(status) => Err(status),
            },
        }
    };
    let answer = work.await.map_err(|status| sentence(&status));
    match &answer {
        Err(reason) => engine.set_outcome(instance, Some(reason.clone())),
        Ok(_) if is_final => engine.set_outcome(instance, None),
        Ok(_) => {}
    }
    let _ = order.reply.send(answer);
}

/// What the user reads of a call that failed: the engine's own sentence, or one for what gRPC says.
fn sentence(status: &Status) -> String {
    match status.code() {
        Code::Unavailable => "The engine went away; try again.".into(),
        Code::DeadlineExceeded => "The engine takes too long to answer.".into(),
        _ if status.message().ends_with(['.', '?']) => status.message().into(),
        code => format!("The engine refused ({code:?}): {}.", status.message()),
    }
}

/// The engine's calls over one connection.
#[derive(Clone)]
struct Client {
    channel: Channel,
    token: String,
    local: bool,
}

struct Known {
    jobs: Vec<String>,
    shots: Vec<wire::Shot>,
}

impl Client {
    async fn connect(endpoint: &Endpoint) -> Result<Self, String> {
        let to = if endpoint.address.starts_with("unix:") {
            tonic::transport::Endpoint::from_shared(endpoint.address.clone()).map_err(|error| error.to_string())?
        } else {
            let uri = tonic::codegen::http::Uri::builder().scheme("http").authority(endpoint.address.as_str());
            tonic::transport::Endpoint::from(uri.path_and_query("/").build().map_err(|error| error.to_string())?)
        };
        let to = to.connect_timeout(CONNECT).tcp_nodelay(true);
        let channel = timeout(CONNECT, to.connect()).await.map_err(|error| error.to_string())?;
        let local = endpoint::is_local(&endpoint.address);
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
    async fn shake_hands(&self) -> Result<Known, String> {
        let said = |status: Status| sentence(&status);
        let mut engines = wire::engine_service_client::EngineServiceClient::new(self.channel.clone());
        let found = engines.get_engine(self.call(wire::GetEngineRequest {})).await.map_err(said)?.into_inner().engine;
        let found = found.unwrap_or_default();
        if found.protocol != PROTOCOL {
            return Err(format!(
                "Engine {} speaks protocol {} and this effect {PROTOCOL}; update the older of the two.",
                found.version, found.protocol
            ));
        }
        let methods = engines.list_methods(self.call(wire::ListMethodsRequest {})).await.map_err(said)?.into_inner();
        crate::methods::keep(&methods);
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let shots = shots.list_shots(self.call(wire::ListShotsRequest {})).await.map_err(said)?.into_inner().shots;
        let mut jobs = wire::job_service_client::JobServiceClient::new(self.channel.clone());
        let jobs = jobs.list_jobs(self.call(wire::ListJobsRequest {})).await.map_err(said)?.into_inner().jobs;
        Ok(Known { jobs: jobs.into_iter().map(|job| job.name).collect(), shots })
    }

    async fn is_there(&self) -> bool {
        let mut engines = wire::engine_service_client::EngineServiceClient::new(self.channel.clone());
        engines.get_engine(self.call(wire::GetEngineRequest {})).await.is_ok()
    }

    /// Every job's changes, those so far first; ends with the connection. The call itself is only answered with the
    /// first change, which may be long in coming.
    fn watch(&self) -> Receiver<wire::WatchJobsResponse> {
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

    async fn get_shot(&self, name: String) -> Result<wire::Shot, Status> {
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let answer = shots.get_shot(self.call(wire::GetShotRequest { name })).await?.into_inner();
        answer.shot.ok_or_else(|| Status::not_found("The engine knows no such shot."))
    }

    async fn cancel(&self, name: String) -> Result<(), Status> {
        let mut jobs = wire::job_service_client::JobServiceClient::new(self.channel.clone());
        jobs.cancel_job(self.call(wire::CancelJobRequest { name })).await.map(|_| ())
    }

    async fn create_shot(&self, request: wire::CreateShotRequest) -> Result<wire::Shot, Status> {
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let answer = within(READ_FILES, shots.create_shot(self.call(request))).await?.into_inner();
        answer.shot.ok_or_else(|| Status::internal("The engine made no shot."))
    }

    async fn upload(&self, frames: Receiver<wire::UploadFramesRequest>) -> Result<u32, Status> {
        let mut shots = wire::shot_service_client::ShotServiceClient::new(self.channel.clone());
        let answer = shots.upload_frames(self.call(ReceiverStream::new(frames))).await?;
        Ok(answer.into_inner().frames_stored)
    }

    /// Makes the job; returns what to say of it.
    async fn propagate(&self, work: Propagate) -> Result<String, Status> {
        let shot = match work.shot {
            From::Shot(name) => name,
            From::Create(request) => self.create_shot(request).await?.name,
        };
        if let Some((frame, path)) = work.keyframe {
            let mut keyframes = wire::keyframe_service_client::KeyframeServiceClient::new(self.channel.clone());
            let picture = wire::Picture { from: Some(picture::From::Path(path)) };
            let request = wire::PutKeyframeRequest { shot: shot.clone(), frame, picture: Some(picture), matte: None };
            within(READ_FILES, keyframes.put_keyframe(self.call(request))).await?;
        }
        let mut jobs = wire::job_service_client::JobServiceClient::new(self.channel.clone());
        let spec = wire::JobSpec { shot, method: work.method, parameters: work.parameters, ..wire::JobSpec::default() };
        let request = wire::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let answer = within(READ_FILES, jobs.create_job(self.call(request))).await?.into_inner();
        let name = answer.job.map(|job| job.name).unwrap_or_default();
        Ok(format!("Job {} is queued.", name.trim_start_matches("jobs/")))
    }

    /// One result frame: mapped where the engine's files are this machine's, else sent.
    async fn frame(&self, job: &str, number: i64) -> Result<Frame, String> {
        if self.local {
            match self.get_frame(job, number, wire::Transport::Mapped).await {
                Err(Trouble::Unmapped(reason)) => crate::log::line(&reason),
                Err(Trouble::Refused(status)) => return Err(sentence(&status)),
                Ok(frame) => return Ok(frame),
            }
        }
        self.get_frame(job, number, wire::Transport::Inline).await.map_err(|trouble| match trouble {
            Trouble::Refused(status) => sentence(&status),
            Trouble::Unmapped(reason) => reason,
        })
    }

    async fn get_frame(&self, job: &str, number: i64, transport: wire::Transport) -> Result<Frame, Trouble> {
        let mut frames = wire::frame_service_client::FrameServiceClient::new(self.channel.clone());
        let request = wire::GetFrameRequest {
            parent: job.into(),
            number,
            view: wire::View::Result.into(),
            transport: transport.into(),
            final_only: false,
        };
        let mut answers = frames.get_frame(self.call(request)).await.map_err(Trouble::Refused)?.into_inner();
        let mut header = None;
        let mut bytes = Vec::new();
        while let Some(answer) = answers.message().await.map_err(Trouble::Refused)? {
            match answer.chunk.and_then(|chunk| chunk.part) {
                Some(frame_chunk::Part::Frame(frame)) => header = Some(frame),
                Some(frame_chunk::Part::Data(data)) => bytes.extend_from_slice(&data),
                None => {}
            }
        }
        let header = header.ok_or_else(|| Trouble::Refused(Status::data_loss("The engine sent no frame.")))?;
        let pixels = match &header.mapped {
            Some(region) if region.length > 0 => Pixels::Mapped(map(region).map_err(Trouble::Unmapped)?),
            _ => Pixels::Inline(bytes),
        };
        let frame = whole_frame(&header, pixels);
        frame.ok_or_else(|| Trouble::Refused(Status::data_loss("The engine sent a frame that is not whole.")))
    }
}

enum Trouble {
    /// The file is not here: the engine runs on another machine, or in a container.
    Unmapped(String),
    Refused(Status),
}

async fn within<T>(most: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(most, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("")))
}

fn map(region: &wire::MappedRegion) -> Result<memmap2::Mmap, String> {
    let trouble = |error: std::io::Error| format!("The frame file {} cannot be mapped: {error}.", region.path);
    let file = File::open(Path::new(&region.path)).map_err(trouble)?;
    let end = region.offset.saturating_add(region.length);
    if file.metadata().map_err(trouble)?.len() < end {
        return Err(format!("The frame file {} is shorter than the engine says.", region.path));
    }
    let length = usize::try_from(region.length).map_err(|error| error.to_string())?;
    // Safety: the engine publishes files whole under a new name and never writes to them again.
    unsafe { MmapOptions::new().offset(region.offset).len(length).map(&file) }.map_err(trouble)
}

/// The frame, if its pixels are as many as its header says.
fn whole_frame(header: &wire::Frame, pixels: Pixels) -> Option<Frame> {
    let window = header.data_window.unwrap_or_default();
    let window = Window {
        x: window.x as usize,
        y: window.y as usize,
        width: window.width as usize,
        height: window.height as usize,
    };
    let frame =
        Frame { width: header.width as usize, height: header.height as usize, window, best: header.r#final, pixels };
    (header.channels as usize * 2 == Depth::Half.pixel_bytes() && frame.paint().is_some()).then_some(frame)
}

/// The messages that send one frame: its header, then its bytes in bounded parts.
pub fn upload_messages(header: wire::FrameHeader, bytes: &[u8]) -> Vec<wire::UploadFramesRequest> {
    use wire::upload_frames_request::Part;
    let message = |part| wire::UploadFramesRequest { part: Some(part) };
    std::iter::once(message(Part::Frame(header)))
        .chain(bytes.chunks(1 << 20).map(|part| message(Part::Data(part.to_vec()))))
        .collect()
}
