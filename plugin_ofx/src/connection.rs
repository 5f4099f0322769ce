//! The process's connection: a thread that finds the engine, follows its jobs, fetches frames and executes orders.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tonic::Status;

use crate::client::{Client, sentence};
use crate::data_folder::data_folder;
use crate::desktop;
use crate::engine_state::{ConnectionState, EngineState};
use crate::launch::{self, Endpoint};
use crate::requests::{Order, Propagate, Request, Work};
use crate::residency;
use crate::wire;

const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// For calls that the engine answers from memory.
const ANSWER: Duration = Duration::from_secs(2);
/// For the call in which the engine decodes a frame.
const READ_PLATE: Duration = Duration::from_secs(120);
/// How long a lost engine is looked for before it counts as absent.
const GRACE: Duration = Duration::from_secs(5);
/// How long after a start the next one may be tried.
const START_AGAIN: Duration = Duration::from_secs(30);
/// How long an order waits for an engine.
const ORDER: Duration = Duration::from_secs(20);

static ENGINE: OnceLock<Option<EngineState>> = OnceLock::new();

/// The process's view of the engine; the first call starts the connection's thread. None where no thread can be started.
pub fn engine() -> Option<&'static EngineState> {
    ENGINE
        .get_or_init(|| {
            let (requests, inbox) = tokio::sync::mpsc::unbounded_channel();
            residency::stay_loaded();
            let thread = std::thread::Builder::new().name("paintover".into());
            thread.spawn(move || run(ENGINE.wait().as_ref(), inbox)).ok()?;
            Some(EngineState::new(requests))
        })
        .as_ref()
}

/// The same, if the connection has been started.
pub fn started() -> Option<&'static EngineState> {
    ENGINE.get()?.as_ref()
}

fn run(engine: Option<&'static EngineState>, inbox: UnboundedReceiver<Request>) {
    let Some(engine) = engine else { return };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Connection::new(engine, inbox).run()),
        Err(error) => engine
            .set_connection_state(ConnectionState::Absent(format!("Paintover cannot talk to its engine: {error}."))),
    }
}

struct Connection {
    engine: &'static EngineState,
    inbox: UnboundedReceiver<Request>,
    /// Orders that wait for an engine.
    orders: Vec<Order>,
    started: Option<Instant>,
    lost: Instant,
    /// A button was pressed since an engine was last started.
    start_requested: bool,
}

impl Connection {
    fn new(engine: &'static EngineState, inbox: UnboundedReceiver<Request>) -> Self {
        Self { engine, inbox, orders: Vec::new(), started: None, lost: Instant::now(), start_requested: false }
    }

    async fn run(mut self) {
        loop {
            match self.find() {
                Ok(Some(endpoint)) => match self.serve(&endpoint).await {
                    Ok(()) => self.lost = Instant::now(),
                    Err(state) => self.engine.set_connection_state(state),
                },
                Ok(None) => self.engine.set_connection_state(ConnectionState::Searching),
                Err(reason) => self.engine.set_connection_state(ConnectionState::Absent(reason)),
            }
            self.pause().await;
        }
    }

    /// The engine that is said to run, after starting one where that is due. None: one may appear any moment. An error is
    /// one sentence why there is none.
    fn find(&mut self) -> Result<Option<Endpoint>, String> {
        let folder = data_folder().ok_or("Paintover's data folder cannot be found: there is no home folder.")?;
        if let Some(endpoint) = launch::read(folder) {
            return Ok(Some(endpoint));
        }
        // An engine that ended in good order was perhaps stopped by the user: only a button starts it again.
        let wanted = self.start_requested || !self.engine.was_connected() || launch::has_crashed(folder);
        let command = launch::engine_command(folder).filter(|_| wanted);
        let installed = launch::engine_command(folder).is_some();
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
                self.start_requested = false;
                launch::start(folder, &command)
                    .map(|()| None)
                    .map_err(|error| format!("Paintover's engine cannot be started ({}: {error}).", command[0]))
            }
        }
    }

    /// Between two attempts: takes requests in, and fails orders that waited too long.
    async fn pause(&mut self) {
        let _ = timeout(LOOK_AGAIN, async {
            while let Some(request) = self.inbox.recv().await {
                self.queue(request);
            }
        })
        .await;
        let reason = match self.engine.connection_state() {
            ConnectionState::Absent(reason) => Some(reason),
            _ => None,
        };
        let is_late = |order: &Order| reason.is_some() || order.created.elapsed() > ORDER;
        for order in self.orders.extract_if(.., |order| is_late(order)) {
            let sentence = reason.clone().unwrap_or_else(|| "The engine does not answer; try again.".into());
            self.engine.set_outcome(order.instance, Some(sentence.clone()));
            if let Some(owner) = order.work.owner() {
                self.engine.set_creating(owner, false);
            }
            let _ = order.reply.send(Err(sentence));
        }
    }

    fn queue(&mut self, request: Request) {
        match request {
            Request::Fetch(job, number) => {
                self.engine.fetched((job, number), 0, 0, Err("The engine is not connected.".into()));
            }
            Request::FetchPlate(key, _) => self.engine.plate_fetched(&key, Err("The engine is not connected.".into())),
            Request::Order(order) => self.orders.push(*order),
            Request::Wake => self.start_requested = true,
            Request::Cancel(_) => {}
        }
    }

    /// Serves one engine until the connection is lost. An error: the state that remains without one.
    async fn serve(&mut self, endpoint: &Endpoint) -> Result<(), ConnectionState> {
        let silent = |_| ConnectionState::Silent;
        let client = Client::connect(endpoint).await.map_err(|_| self.unreachable_state())?;
        let catalogue = timeout(ANSWER, client.handshake()).await.map_err(silent)?.map_err(ConnectionState::Absent)?;
        if self.engine.connection_state() != ConnectionState::Ready {
            self.engine.set_connection_state(ConnectionState::Searching);
        }
        self.engine.connected(catalogue.jobs, catalogue.shots, endpoint.monitor.clone());
        let mut jobs = client.watch();
        let (engine, asked) = (self.engine, client.clone());
        tokio::spawn(async move {
            if let Ok(best) = asked.best().await {
                engine.set_best(best);
            }
        });
        for order in std::mem::take(&mut self.orders) {
            tokio::spawn(execute(self.engine, client.clone(), order));
        }
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                change = jobs.recv() => match change {
                    Some(change) => self.apply(&client, change),
                    None => {
                        self.engine.set_connection_state(ConnectionState::Searching);
                        return Ok(());
                    }
                },
                Some(request) = self.inbox.recv() => self.handle(&client, request),
                _ = beat.tick() => if self.engine.connection_state() == ConnectionState::Silent {
                    match timeout(ANSWER, client.is_there()).await {
                        Ok(true) => self.engine.set_connection_state(ConnectionState::Ready),
                        Ok(false) => return Ok(()),
                        Err(_) => {}
                    }
                },
            }
        }
    }

    /// For an engine that is said to run and cannot be reached: it is starting or ending, or it died and its pid is reused.
    fn unreachable_state(&self) -> ConnectionState {
        if self.lost.elapsed() < GRACE && self.engine.connection_state() == ConnectionState::Searching {
            ConnectionState::Searching
        } else {
            ConnectionState::Silent
        }
    }

    fn apply(&self, client: &Client, change: wire::WatchJobsResponse) {
        let Some(job) = change.job else { return };
        if let Some(shot) = self.engine.update_job(change.sequence, job) {
            let (engine, client) = (self.engine, client.clone());
            tokio::spawn(async move {
                if let Ok(Ok(shot)) = timeout(ANSWER, client.get_shot(shot)).await {
                    engine.update_shot(shot);
                }
            });
        }
    }

    fn handle(&self, client: &Client, request: Request) {
        let (engine, client) = (self.engine, client.clone());
        match request {
            Request::Fetch(job, number) => {
                tokio::spawn(async move {
                    let key = (job, number);
                    let (connection, sequence) = engine.version_of(&key);
                    let frame = timeout(ANSWER, client.frame(&key.0, number, wire::View::Result)).await;
                    if frame.is_err() {
                        engine.set_connection_state(ConnectionState::Silent);
                    }
                    let frame = frame.unwrap_or_else(|_| Err("The engine does not answer.".into()));
                    engine.fetched(key, connection, sequence, frame);
                });
            }
            Request::FetchPlate(key, number) => {
                tokio::spawn(async move {
                    let plate = timeout(READ_PLATE, client.frame(&key.1, number, wire::View::Plate)).await;
                    engine.plate_fetched(&key, plate.unwrap_or_else(|_| Err("The engine does not answer.".into())));
                });
            }
            Request::Order(order) => {
                tokio::spawn(execute(engine, client, *order));
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

async fn execute(engine: &'static EngineState, client: Client, order: Order) {
    let instance = order.instance;
    let owner = order.work.owner().map(str::to_owned);
    let is_last = !matches!(order.work, Work::CreateShot(_));
    let work = async {
        match order.work {
            Work::Propagate(work) => propagate(engine, &client, *work).await,
            Work::CreateShot(request) => client.create_shot(request).await.map(|shot| shot.name),
            Work::UploadThen { frames, expected, then } => {
                let count = client.upload(frames).await?;
                if count < expected.load(Ordering::Acquire) {
                    return Err(Status::aborted("Not all frames were sent; nothing was propagated."));
                }
                propagate(engine, &client, *then).await
            }
            Work::ExportFrame { shot, frame, path } => {
                if !Path::new(&path).exists() {
                    client.export_frame(shot, frame, path.clone()).await?;
                }
                Ok(desktop::paint(&path))
            }
        }
    };
    let outcome = work.await.map_err(|status| sentence(&status));
    // A job that was created counts as being created until its first change arrives.
    if let (Some(owner), Err(_)) = (owner, &outcome) {
        engine.set_creating(&owner, false);
    }
    match &outcome {
        Err(reason) => engine.set_outcome(instance, Some(reason.clone())),
        Ok(_) if is_last => engine.set_outcome(instance, None),
        Ok(_) => {}
    }
    let _ = order.reply.send(outcome);
}

/// Creates the jobs, and cancels them if the user did so meanwhile. Returns what to tell the user.
async fn propagate(engine: &EngineState, client: &Client, work: Propagate) -> Result<String, Status> {
    let owner = work.owner.clone();
    let cancelled = || Status::cancelled("Cancelled.");
    let created = if engine.is_cancelled(&owner) { Err(cancelled()) } else { client.propagate(work).await };
    match created {
        Ok(created) if engine.is_cancelled(&owner) => {
            let mut outcome = Ok(());
            for job in created.jobs {
                outcome = client.cancel(job).await.and(outcome);
            }
            outcome.and(Err(cancelled()))
        }
        Ok(created) => {
            let numbers: Vec<_> = created.jobs.iter().map(|job| job.trim_start_matches("jobs/")).collect();
            let queued = match numbers[..] {
                [draft, job] => format!("Job {job} is queued, and job {draft} for a draft."),
                _ => format!("Job {} is queued.", numbers.concat()),
            };
            Ok(format!("{queued} {}", created.why).trim_end().to_owned())
        }
        Err(status) => Err(status),
    }
}
