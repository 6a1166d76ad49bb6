//! From other threads to that of a tunnel.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use mio::Waker;

use super::scenario::{CloseStyle, Order};

/// A way to tell a tunnel's thread what to do, or that packets wait.
#[derive(Default)]
pub(super) struct Kick {
    orders: Mutex<VecDeque<Order>>,
    waker: OnceLock<Waker>,
}

impl Kick {
    pub fn drop_tunnel(&self, style: CloseStyle) {
        self.order(Order::Drop(style));
    }

    pub fn order(&self, order: Order) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push_back(order);
        self.wake();
    }

    pub fn set_waker(&self, waker: Waker) {
        // The first and only one: a kick is made for one tunnel.
        let _ = self.waker.set(waker);
    }

    pub fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            // A failure means that the thread is ending anyway.
            let _ = waker.wake();
        }
    }

    pub fn take(&self) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
