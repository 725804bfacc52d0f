//! Connections to one address: dialled, kept, shared and let go.
