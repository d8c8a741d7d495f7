//! A call that stays open is looked at again with every message of its caller: rights that ended while it was open are of no more
//! use on it than on a new one.

use std::pin::Pin;
use std::task::{Context, Poll};

use coracle_proto::status::ApiError;
use http::Request;
use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;

/// Gives the request a body that ends with an error as soon as `check` refuses the caller.
pub fn rechecked<C>(request: Request<Body>, check: C) -> Request<Body>
where
    C: Fn() -> Result<(), ApiError> + Send + Unpin + 'static,
{
    request.map(|inner| Body::new(Rechecked { inner, check }))
}

struct Rechecked<C> {
    inner: Body,
    check: C,
}

impl<C: Fn() -> Result<(), ApiError> + Send + Unpin> http_body::Body for Rechecked<C> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        match (self.check)() {
            Ok(()) => Poll::Ready(frame),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use coracle_proto::status::Reason;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[tokio::test]
    async fn the_body_ends_when_the_caller_is_refused() {
        let frames = ["one", "two", "three"].map(|text| Ok::<_, Status>(Frame::data(Bytes::from(text))));
        let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
        let (member, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let check = {
            let (member, asked) = (Arc::clone(&member), Arc::clone(&asked));
            move || {
                asked.store(true, Ordering::SeqCst);
                if member.load(Ordering::SeqCst) {
                    Ok(())
                } else {
                    Err(ApiError::new(Reason::Removed, "gone"))
                }
            }
        };
        let mut body = rechecked(Request::new(body), check).into_body();
        assert!(!asked.load(Ordering::SeqCst));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        assert!(asked.load(Ordering::SeqCst));
        member.store(false, Ordering::SeqCst);
        assert_eq!(ApiError::from_status(&body.frame().await.unwrap().unwrap_err()).reason, Reason::Removed);
    }
}
