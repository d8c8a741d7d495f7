//! Calls with a deadline, and when they are repeated.

use std::error::Error as _;
use std::time::Duration;

use coracle_proto::status::{ApiError, Reason};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Response, Status};

use super::Context;

/// How long a call is repeated that was not done: longer than an election takes.
const REPEAT_FOR: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What a repetition of a call could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Nothing: it reads, or the manager recognises it.
    Harmless,
    /// Do it twice, unless it surely was not done.
    IfNotDone,
    /// More than can be taken back: it is only asked elsewhere when the one asked did not lead.
    NotLed,
}

/// Repetitions with growing pauses, until it is too late.
pub(crate) struct Tries {
    last: Instant,
    pause: Duration,
}

impl Tries {
    fn new(deadline: Duration) -> Self {
        Self { last: Instant::now() + REPEAT_FOR.min(deadline), pause: FIRST_PAUSE }
    }

    /// Waits before another try; false when there is no time for it.
    pub(crate) async fn again(&mut self) -> bool {
        if Instant::now() + self.pause >= self.last {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

impl Context {
    /// A call that changes nothing, or that carries an idempotency key.
    ///
    /// # Errors
    /// What the manager answers; that there is no answer.
    pub(crate) async fn call<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, ApiError> {
        self.repeat(Repeat::Harmless, self.deadline, request, call).await
    }

    /// A call that changes something and that the manager would not recognise.
    ///
    /// # Errors
    /// What the manager answers; that there is no answer.
    pub(crate) async fn write<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, ApiError> {
        self.repeat(Repeat::IfNotDone, self.deadline, request, call).await
    }

    /// A call that takes its time and is made once, by a manager that leads.
    ///
    /// # Errors
    /// What the other side answers; that there is no answer.
    pub(crate) async fn once<Q: Clone, A>(
        &self,
        deadline: Duration,
        request: Q,
        call: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, ApiError> {
        self.repeat(Repeat::NotLed, deadline.max(self.deadline), request, call).await
    }

    /// A call whose answer is a stream: repeated until it begins, and without a deadline from then on.
    ///
    /// # Errors
    /// What the manager answers instead.
    pub(crate) async fn open<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, ApiError> {
        let mut tries = Tries::new(self.deadline);
        loop {
            let error = match call(Request::new(request.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => self.explain(&status),
            };
            if !error.reason.may_be_repeated() || !tries.again().await {
                return Err(error);
            }
        }
    }

    /// For calls that are repeated by hand.
    pub(crate) fn tries(&self) -> Tries {
        Tries::new(self.deadline)
    }

    async fn repeat<Q: Clone, A>(
        &self,
        repeat: Repeat,
        deadline: Duration,
        request: Q,
        call: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, ApiError> {
        let end = Instant::now() + deadline;
        let mut tries = Tries::new(deadline);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut message = Request::new(request.clone());
            message.set_timeout(left);
            let error = match timeout(left, call(message)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => self.explain(&status),
                Err(_) => return Err(self.no_answer(repeat, deadline)),
            };
            let may_repeat = match repeat {
                Repeat::Harmless => error.reason.may_be_repeated() || error.reason == Reason::OutcomeUnknown,
                Repeat::IfNotDone => error.reason.may_be_repeated(),
                Repeat::NotLed => error.reason == Reason::NotLeader,
            };
            if !may_repeat || !tries.again().await {
                return Err(error);
            }
        }
    }

    fn no_answer(&self, repeat: Repeat, deadline: Duration) -> ApiError {
        let waited = crate::opt::duration::render(coracle_proto::convert::nanos(deadline));
        let message = format!("no answer from {} within {waited}", self.target);
        match repeat {
            Repeat::Harmless => ApiError::new(Reason::Unavailable, message)
                .with_hint("`coracle system info` tells whether the node knows a leader"),
            Repeat::IfNotDone | Repeat::NotLed => {
                ApiError::new(Reason::OutcomeUnknown, format!("{message}: it may have been done or not"))
                    .with_hint("look before you try again")
            }
        }
    }

    /// What a status means; the transport's own are said in words.
    pub(crate) fn explain(&self, status: &Status) -> ApiError {
        let mut error = ApiError::from_status(status);
        if status.source().is_some_and(|source| source.is::<tonic::transport::Error>()) {
            let cause = innermost(status);
            error.message = format!("the connection to {} broke: {cause}", self.target);
        }
        if status.code() == Code::Unimplemented {
            error.message = format!("{} does not know this call", self.target);
            error.hint = Some(
                "this program and the daemon may differ: compare them with `coracle version`".to_owned(),
            );
        }
        // The words of the manager's transport (tonic), which knows only that it is too much.
        if status.code() == Code::OutOfRange && status.message().contains("encoded message length") {
            error.message = format!("the answer is larger than {} gives at once", self.target);
            error.hint = Some("ask for less, e.g. for the tasks of some services or nodes".to_owned());
        }
        error
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
