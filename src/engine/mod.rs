//! Threads, sockets and queues around the cores.
