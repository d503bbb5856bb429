//! Shared by the programs of this package.
