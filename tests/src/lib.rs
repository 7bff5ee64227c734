//! Harness of the tests and of the playground: network namespaces, real servers, real clients.
