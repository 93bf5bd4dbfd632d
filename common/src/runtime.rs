//! Process start and end: builds tokio, turns signals into a shutdown, maps the outcome to an exit code.

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};

use crate::error::chain;
use crate::shutdown::Shutdown;

/// The end of a process waits at most that long for a collector of traces.
const TRACES: Duration = Duration::from_millis(300);

/// How the process runs.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Worker threads; 1 runs everything on the main thread.
    pub threads: usize,
    /// Time from the first SIGTERM or SIGINT to the end, whatever is still running.
    pub deadline: Duration,
    /// The number of a signal that means something else to the app, and so ends nothing.
    pub other_meaning: Option<i32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 1, deadline: Duration::from_secs(10), other_meaning: None }
    }
}

/// Runs an app to its end: 0 when it ends well (also when asked to by a signal), 1 when it fails or
/// is still running at the deadline or a second signal comes. The error and its causes are logged.
pub fn run<F, Fut, E>(options: Options, app: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let mut builder = match options.threads {
        0 | 1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let shutdown = Shutdown::new();
    // As a task, since each waking of what is blocked on costs a system call more.
    let app = runtime.spawn(app(shutdown.clone()));
    let code = runtime.block_on(supervise(app, &shutdown, options));
    // Blocking work that ignores its cancellation must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    crate::trace::flush(TRACES);
    code
}

async fn supervise<E>(mut app: JoinHandle<Result<(), E>>, shutdown: &Shutdown, options: Options) -> ExitCode
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut term, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(term), Ok(interrupt)) => (term, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
    };
    let ends = |signal: SignalKind| options.other_meaning != Some(signal.as_raw_value());
    let (by_term, by_interrupt) = (ends(SignalKind::terminate()), ends(SignalKind::interrupt()));
    let name = tokio::select! {
        outcome = &mut app => return exit_code(outcome),
        _ = term.recv(), if by_term => "SIGTERM",
        _ = interrupt.recv(), if by_interrupt => "SIGINT",
    };
    tracing::info!(signal = name, "stopping");
    shutdown.trigger();
    tokio::select! {
        outcome = app => exit_code(outcome),
        () = tokio::time::sleep(options.deadline) => {
            tracing::error!(deadline = ?options.deadline, "still running at the deadline; leaving");
            ExitCode::FAILURE
        }
        _ = term.recv(), if by_term => ExitCode::FAILURE,
        _ = interrupt.recv(), if by_interrupt => ExitCode::FAILURE,
    }
}

fn exit_code<E: Into<Box<dyn Error + Send + Sync>>>(outcome: Result<Result<(), E>, JoinError>) -> ExitCode {
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            let error = error.into();
            tracing::error!(error = %chain(error.as_ref()), "failed");
            ExitCode::FAILURE
        }
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => ExitCode::FAILURE,
        },
    }
}
