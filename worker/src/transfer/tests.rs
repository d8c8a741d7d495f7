//! Images over real connections.
