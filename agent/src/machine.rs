//! Geometry and settings of this host.
