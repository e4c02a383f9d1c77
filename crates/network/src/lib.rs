//! Pod network, services, policies, DNS.
