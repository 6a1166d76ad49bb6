//! Threads, sockets and queues around the cores.

pub mod sys;
