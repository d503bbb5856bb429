//! Stories of real repositories, made with the git command, and what is read from them.
mod boundaries;
mod contents;
mod kit;
mod oddities;
mod releases;
