//! Between the task of a stream and the body of its answer: room for one message, and for the end.
//!
//! A channel, and a signal for each message, would do the same. But a channel of tokio's has room for
//! 32 messages at least, and a server has one of these for each of ten thousand streams, which send
//! one message at a time.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tonic::Status;

use crate::control::lock::lock;

/// What the body is told.
#[derive(Debug)]
pub(super) enum Said {
    /// The end, with a status.
    End(Status),
    /// A message with its prefix, in pieces.
    Message(Vec<Bytes>),
    /// The task is gone without a word.
    Nothing,
}

/// Locked for a look or a change, and never while somebody is woken.
#[derive(Debug, Default)]
struct Line {
    /// The message that the body has not begun with.
    next: Option<Vec<Bytes>>,
    /// The body has one that has not gone out whole.
    under_way: bool,
    end: Option<Status>,
    task_gone: bool,
    body_gone: bool,
    /// Whom to wake when something is said.
    body: Option<Waker>,
    /// Whom to wake when a message has gone out.
    task: Option<Waker>,
}

impl Line {
    fn is_taken(&self) -> bool {
        self.body_gone || (self.next.is_none() && !self.under_way)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Both sides of a line.
pub(super) fn line() -> (Speaker, Listener) {
    let line = Arc::<Mutex<Line>>::default();
    (Speaker(line.clone()), Listener(line))
}

/// The task's side.
#[derive(Debug)]
pub(super) struct Speaker(Arc<Mutex<Line>>);

impl Speaker {
    /// Says a message, in place of one that the body has not begun with.
    pub(super) fn send(&self, pieces: Vec<Bytes>) {
        let mut line = lock(&self.0);
        line.next = Some(pieces);
        let body = line.body.take();
        drop(line);
        wake(body);
    }

    /// Waits until the last byte of the last message has gone out, or nobody listens. It is cancel
    /// safe.
    pub(super) async fn taken(&self) {
        poll_fn(|cx| {
            let mut line = lock(&self.0);
            if line.is_taken() {
                return Poll::Ready(());
            }
            line.task = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until nobody listens any more. It is cancel safe.
    pub(super) async fn deserted(&self) {
        poll_fn(|cx| {
            let mut line = lock(&self.0);
            if line.body_gone {
                return Poll::Ready(());
            }
            line.task = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Says the end, behind what was said before.
    pub(super) fn end(self, status: Status) {
        lock(&self.0).end = Some(status);
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let mut line = lock(&self.0);
        line.task_gone = true;
        let body = line.body.take();
        drop(line);
        wake(body);
    }
}

/// The body's side.
#[derive(Debug)]
pub(super) struct Listener(Arc<Mutex<Line>>);

impl Listener {
    /// What is said next; the message before it has gone out.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Said> {
        let mut line = lock(&self.0);
        let task = match std::mem::take(&mut line.under_way) {
            true => line.task.take(),
            false => None,
        };
        let said = if let Some(pieces) = line.next.take() {
            line.under_way = true;
            Poll::Ready(Said::Message(pieces))
        } else if let Some(status) = line.end.take() {
            Poll::Ready(Said::End(status))
        } else if line.task_gone {
            Poll::Ready(Said::Nothing)
        } else {
            line.body = Some(cx.waker().clone());
            Poll::Pending
        };
        drop(line);
        wake(task);
        said
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut line = lock(&self.0);
        line.body_gone = true;
        let task = line.task.take();
        drop(line);
        wake(task);
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn message(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes())]
    }

    #[test]
    fn a_message_is_taken_when_the_body_asks_for_what_comes_behind_it() {
        let (speaker, listener) = line();
        let mut body = task::spawn(());
        let mut hear = || body.enter(|cx, _| listener.poll(cx));
        assert_pending!(hear());
        speaker.send(message("one"));
        let mut taken = task::spawn(speaker.taken());
        assert_pending!(taken.poll());
        let said = assert_ready!(hear());
        assert!(matches!(said, Said::Message(pieces) if pieces == message("one")));
        assert_pending!(taken.poll());
        assert_pending!(hear());
        assert!(taken.is_woken());
        assert_ready!(taken.poll());
        drop(taken);
        speaker.send(message("two"));
        speaker.end(Status::unavailable("enough"));
        assert!(matches!(assert_ready!(hear()), Said::Message(_)));
        let said = assert_ready!(hear());
        assert!(matches!(said, Said::End(status) if status.message() == "enough"));
    }

    #[test]
    fn who_waits_is_woken_when_the_other_is_gone() {
        let (speaker, listener) = line();
        let mut body = task::spawn(());
        assert_pending!(body.enter(|cx, _| listener.poll(cx)));
        drop(speaker);
        assert!(body.is_woken());
        let said = assert_ready!(body.enter(|cx, _| listener.poll(cx)));
        assert!(matches!(said, Said::Nothing));
        let (speaker, listener) = line();
        let mut deserted = task::spawn(speaker.deserted());
        assert_pending!(deserted.poll());
        speaker.send(message("one"));
        let mut taken = task::spawn(speaker.taken());
        assert_pending!(taken.poll());
        drop(listener);
        assert!(taken.is_woken());
        assert_ready!(taken.poll());
        assert_ready!(deserted.poll());
    }
}
