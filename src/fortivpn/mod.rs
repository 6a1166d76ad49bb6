//! The FortiVPN client: login, configuration, tunnel, session.
