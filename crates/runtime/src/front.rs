//! One server for services that are here at times and elsewhere at others: an active process answers, a standby passes calls on.

use axum::body::Body;
use axum::http::Request;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Channel;
use tower::ServiceExt as _;

/// Who answers.
#[derive(Debug, Clone)]
pub enum Seat {
    /// Nobody, as far as is known.
    Nobody,
    /// This process.
    Here(Routes),
    /// The process at the other end.
    There(Channel),
}

/// Routes that ask whoever has the seat when a call comes. While nobody has it, calls end with `UNAVAILABLE`, as do those that were
/// passed on to a process that is gone. A call that is passed on by both of two processes is passed on once: the second refuses.
#[must_use]
pub fn routes(seat: watch::Receiver<Seat>) -> Routes {
    let answer = move |request: Request<Body>| {
        let seat = seat.borrow().clone();
        ask(seat, request)
    };
    axum::Router::new().fallback(answer).into()
}

/// Marks calls that were passed on.
const PASSED_ON: &str = "x-shoal-passed-on";

async fn ask(seat: Seat, mut request: Request<Body>) -> Response {
    match seat {
        Seat::Here(routes) => match routes.oneshot(request).await {
            Ok(response) => response.into_response(),
            Err(never) => match never {},
        },
        Seat::There(_) if request.headers().contains_key(PASSED_ON) => {
            unavailable("two processes take each other for the active one")
        }
        Seat::There(channel) => {
            let mark = axum::http::HeaderValue::from_static("1");
            request.headers_mut().insert(PASSED_ON, mark);
            match channel.oneshot(request.map(tonic::body::Body::new)).await {
                Ok(response) => response.map(Body::new),
                Err(gone) => unavailable(&format!("the active process does not answer: {gone}")),
            }
        }
        Seat::Nobody => unavailable("no process is active"),
    }
}

fn unavailable(why: &str) -> Response {
    tonic::Status::unavailable(why).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::Pipe;
    use tokio_util::sync::CancellationToken;
    use tonic::{Code, Status};

    /// Services that answer every call with `code`.
    fn services(code: Code) -> Routes {
        let answer = move || async move { Status::new(code, "").into_http::<Body>() };
        axum::Router::new().fallback(answer).into()
    }

    /// A process that nobody is active in: its seat and a client of it.
    fn process(stop: &CancellationToken) -> (watch::Sender<Seat>, Channel) {
        let (seat, seated) = watch::channel(Seat::Nobody);
        let (pipe, listener) = Pipe::new("front");
        tokio::spawn(listener.serve(routes(seated), stop.clone()));
        (seat, pipe.channel())
    }

    async fn asked(channel: &Channel) -> Code {
        let request = Request::post("http://front/shoal.test/Call")
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::empty())
            .unwrap();
        let answer = channel.clone().oneshot(request).await.unwrap();
        Status::from_header_map(answer.headers()).unwrap().code()
    }

    #[tokio::test]
    async fn a_standby_passes_calls_on_to_the_active_one_and_answers_once_it_is_active() {
        let stop = CancellationToken::new();
        let (standby, client) = process(&stop);
        assert_eq!(asked(&client).await, Code::Unavailable);

        let (other, there) = process(&stop);
        other.send_replace(Seat::Here(services(Code::DataLoss)));
        standby.send_replace(Seat::There(there));
        assert_eq!(asked(&client).await, Code::DataLoss);

        standby.send_replace(Seat::Here(services(Code::OutOfRange)));
        assert_eq!(asked(&client).await, Code::OutOfRange);
        stop.cancel();
    }

    #[tokio::test]
    async fn two_that_take_each_other_for_active_do_not_pass_a_call_round_for_ever() {
        let stop = CancellationToken::new();
        let (one, to_one) = process(&stop);
        let (two, to_two) = process(&stop);
        one.send_replace(Seat::There(to_two));
        two.send_replace(Seat::There(to_one.clone()));
        assert_eq!(asked(&to_one).await, Code::Unavailable);
        stop.cancel();
    }
}
