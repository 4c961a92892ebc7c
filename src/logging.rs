//! journald where there is a journal, else stderr.
