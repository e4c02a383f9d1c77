//! Creating and deleting many objects: quickly when it works, without a flood when it does not.

use std::future::Future;

use futures::future::join_all;

/// Objects in the first batch; each batch that succeeds doubles the next (upstream's slow start).
const FIRST_BATCH: usize = 1;

/// Runs `work` over `items` in batches of growing size. The first batch with a failure is the last. Returns how many
/// succeeded, and the first error.
pub(crate) async fn slow_start<T, R, E>(items: Vec<T>, work: impl Fn(T) -> R) -> (usize, Result<(), E>)
where
    R: Future<Output = Result<(), E>>,
{
    let mut items = items.into_iter();
    let mut succeeded = 0;
    let mut size = FIRST_BATCH;
    loop {
        let batch: Vec<R> = items.by_ref().take(size).map(&work).collect();
        if batch.is_empty() {
            return (succeeded, Ok(()));
        }
        let mut failure = None;
        for outcome in join_all(batch).await {
            match outcome {
                Ok(()) => succeeded += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if let Some(error) = failure {
            return (succeeded, Err(error));
        }
        size *= 2;
    }
}

/// Runs `work` over all items at once. Returns the first error.
pub(crate) async fn all<T, R, E>(items: Vec<T>, work: impl Fn(T) -> R) -> Result<(), E>
where
    R: Future<Output = Result<(), E>>,
{
    join_all(items.into_iter().map(work)).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn failures_stop_the_next_batch() {
        let tried = Cell::new(0);
        let work = |fails: bool| {
            tried.set(tried.get() + 1);
            async move { if fails { Err("no") } else { Ok(()) } }
        };
        assert_eq!(slow_start(vec![false; 10], work).await, (10, Ok(())));
        tried.set(0);
        assert_eq!(slow_start(vec![true; 10], work).await, (0, Err("no")));
        assert_eq!(tried.get(), 1, "a failing server got more than one request");
        tried.set(0);
        assert_eq!(slow_start(vec![false, false, true, false, false], work).await, (2, Err("no")));
        assert_eq!(tried.get(), 3);
    }
}
