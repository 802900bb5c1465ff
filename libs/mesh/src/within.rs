//! A future that has until its call's deadline, on both sides of a call.

use rpc::Deadline;
use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use tokio::task::coop::unconstrained;

/// What `future` comes to until the deadline; none if that passes before. A timer is made only for one that is not done at once. It is
/// heard even if the future uses up all that tokio gives a task at a time, as one does whose input never ends.
pub(crate) async fn within<F: Future>(deadline: Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(None);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if timer.is_none() {
            timer.set(Some(unconstrained(tokio::time::sleep_until(deadline.0.into()))));
        }
        let timer = timer.as_mut().as_pin_mut().expect("it was made above");
        timer.poll(context).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use std::time::Instant;

    #[tokio::test]
    async fn a_future_that_is_always_busy_ends_at_its_deadline() {
        let begun = Instant::now();
        let busy = async {
            while begun.elapsed() < Duration::from_secs(10) {
                tokio::task::coop::consume_budget().await;
            }
        };
        assert_eq!(within(Deadline(begun + Duration::from_millis(20)), busy).await, None);
    }
}
