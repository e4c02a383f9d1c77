//! The distribution: flags, certificates, join, supervision.
