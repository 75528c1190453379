//! Calls answered over gRPC as hops of traces.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Waking, Poll};

use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Body, Service};

use crate::trace::{Context, Span, is_on};

/// Calls that every orchestrator makes every few seconds, and nobody traces.
const HEALTH: &str = "/grpc.health.v1.";

/// A service whose calls are hops, each until its answer begins. A caller that names its own hop is followed.
#[derive(Debug, Clone)]
pub(crate) struct Traced<S>(pub(crate) S);

impl<S, B, R> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, waking: &mut Waking<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(waking)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = hop(&request);
        let answering = self.0.call(request);
        Box::pin(async move {
            let answer = answering.await;
            if let (Some(mut span), Ok(answer)) = (span, &answer) {
                // Without the header the call went well, or its status comes after a stream.
                if let Some(status) = answer.headers().get("grpc-status")
                    && status != "0"
                {
                    span.failed(status.to_str().unwrap_or_default().to_owned());
                }
            }
            answer
        })
    }
}

fn hop<B>(request: &Request<B>) -> Option<Span> {
    let path = request.uri().path();
    if !is_on() || path.starts_with(HEALTH) {
        return None;
    }
    let caller = request.headers().get("traceparent");
    let caller = caller.and_then(|c| Context::of(c.to_str().ok()?));
    let name = path.trim_start_matches('/').to_owned();
    Some(caller.map_or_else(
        || Span::root(name.clone()),
        |caller| Span::after(&caller, name.clone()),
    ))
}
