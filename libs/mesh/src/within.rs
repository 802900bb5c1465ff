//! A future that has until its call's deadline, on both sides of a call.

use rpc::Deadline;
use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// What `future` comes to until the deadline; none if that passes before. A timer is made only for one that is not done at once.
pub(crate) async fn within<F: Future>(deadline: Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(None);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if timer.is_none() {
            timer.set(Some(tokio::time::sleep_until(deadline.0.into())));
        }
        let timer = timer.as_mut().as_pin_mut().expect("it was made above");
        timer.poll(context).map(|()| None)
    })
    .await
}
