//! Objects by name: list, read, create, put, patch, delete.

use super::*;

#[tokio::test]
async fn collections_and_objects_are_read_by_name() {
    let server = Server::start();
    assert_eq!(server.get("/v1/virtual_networks").await[1]["name"], "west");
    assert_eq!(server.get("/v1/pools/web").await["monitor"], "tcp1");
    assert_eq!(server.get("/v1/virtual_networks/east/tunnels/a").await["encap"], "gre");
    assert_eq!(server.get("/v1/pools/web/endpoints").await[1]["name"], "b");
    let tunnels = server.get("/v1/tunnels").await;
    assert_eq!((&tunnels[0]["virtual_network"], &tunnels[0]["name"]), (&json!("east"), &json!("a")));
    assert_eq!(server.get("/v1/endpoints").await[0]["pool"], "web");
}

#[tokio::test]
async fn what_is_not_there_is_named_together_with_what_is() {
    let server = Server::start();
    for (path, expected) in [
        ("/v1/pools/db", "there is no pool `db`, only web"),
        ("/v1/pools/web/endpoints/z", "there is no endpoint `web/z`, only a, b"),
        ("/v1/pools/db/endpoints/a", "there is no pool `db`, only web"),
        ("/v1/virtual_networks/west/tunnels/a", "there is no tunnel `west/a`: none is configured there"),
    ] {
        let problem = server.refused(server.request(Method::GET, path)).await;
        assert_eq!((problem.kind.as_str(), problem.detail.as_str()), ("not_found", expected));
    }
}

#[tokio::test]
async fn create_adds_once_and_only_once() {
    let server = Server::start();
    let body = json!({"name": "c", "virtual_network": "west", "address": "10.0.0.10"});
    let answer = server.request(Method::POST, "/v1/pools/web/endpoints").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["etag"], "\"8\"");
    let report: WriteReport = answer.json().await.unwrap();
    assert_eq!(names(&report.changes), [(ChangeAction::Created, "endpoints", "web/c")]);
    assert_eq!(server.config().pools[0].endpoints.len(), 3);

    let again = server.request(Method::POST, "/v1/pools/web/endpoints").json(&body);
    let problem = server.refused(again).await;
    assert_eq!((problem.kind.as_str(), problem.status), ("exists", 409));
    assert!(problem.detail.contains("endpoint `web/c`"), "{}", problem.detail);

    let orphan = server.request(Method::POST, "/v1/endpoints").json(&body);
    assert!(server.refused(orphan).await.detail.contains("/v1/pools/NAME/endpoints"));
}

#[tokio::test]
async fn put_makes_or_replaces_and_takes_the_name_from_the_path() {
    let server = Server::start();
    let report = server.write(Method::PUT, "/v1/monitors/slow", json!({"interval": "1m"})).await;
    assert_eq!(names(&report.changes), [(ChangeAction::Created, "monitors", "slow")]);
    let report = server.write(Method::PUT, "/v1/monitors/slow", json!({"interval": "2m"})).await;
    assert_eq!(report.changes[0].fields[0].field, "interval");
    assert_eq!(report.changes[0].fields[0].before, Some(json!("1m")));

    let rename = server.request(Method::PUT, "/v1/monitors/slow").json(&json!({"name": "fast"}));
    let problem = server.refused(rename).await;
    assert_eq!((problem.status, problem.mistakes[0].path.as_str()), (422, "name"));
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_revision() {
    let server = Server::start();
    let report = server.write(Method::PATCH, "/v1/pools/web", json!({"monitor": "tcp1"})).await;
    assert_eq!((report.revision, report.changes.len()), (7, 0));
}

#[tokio::test]
async fn patch_changes_named_fields_and_null_removes_one() {
    let server = Server::start();
    let report =
        server.write(Method::PATCH, "/v1/pools/web/endpoints/a", json!({"weight": 0.3, "port": null})).await;
    assert_eq!(names(&report.changes), [(ChangeAction::Changed, "endpoints", "web/a")]);
    let endpoint = &server.config().pools[0].endpoints[0];
    assert!((endpoint.weight - 0.3).abs() < f64::EPSILON);
    assert_eq!(endpoint.port, None);
    assert_eq!(endpoint.address, "10.0.0.10".parse::<std::net::IpAddr>().unwrap());
}

#[tokio::test]
async fn wrong_types_and_unknown_fields_are_found_at_their_path() {
    let server = Server::start();
    for (body, path, word) in [
        (
            json!({"address": "10.0.0"}),
            "pools[0].endpoints[1].address",
            "`10.0.0` is not an IP address: write it as",
        ),
        (json!({"wieght": 1}), "pools[0].endpoints[1].wieght", "unknown field `wieght`"),
        (json!({"port": "x"}), "pools[0].endpoints[1].port", "a whole number from 0 to 65535"),
        (json!({"virtual_network": null}), "pools[0].endpoints[1].virtual_network", "is missing"),
    ] {
        let request = server.request(Method::PATCH, "/v1/pools/web/endpoints/b").json(&body);
        let problem = server.refused(request).await;
        assert_eq!((problem.kind.as_str(), problem.status), ("invalid", 422));
        assert_eq!(problem.mistakes[0].path, path);
        assert!(problem.mistakes[0].message.contains(word), "{:?}", problem.mistakes);
    }
    let request = server.request(Method::PATCH, "/v1/pools/web").body("{\"monitor\": ");
    let problem = server.refused(request).await;
    assert_eq!(problem.status, 400);
    assert!(problem.detail.contains("no valid JSON") && problem.detail.contains("line 1"), "{problem:?}");
    assert_eq!(server.config(), config());
}

#[tokio::test]
async fn every_mistake_of_a_body_is_named_and_nothing_is_changed() {
    let server = Server::start();
    let body = json!({
        "address": "203.0.113.8O", "listen": ["tcp/9-8", "udp/any"], "allow": ["10.0.0.1/8", "::/0", "all"],
        "rate_limit": {"per_sorce": 1},
    });
    let problem = server.refused(server.request(Method::PATCH, "/v1/services/web").json(&body)).await;
    let mut paths: Vec<_> = problem.mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "services[0].address",
            "services[0].allow[0]",
            "services[0].allow[2]",
            "services[0].listen[0]",
            "services[0].rate_limit.per_sorce"
        ]
    );
    assert_eq!(server.config(), config());
}

#[tokio::test]
async fn fields_inside_a_field_are_patched_one_by_one() {
    let server = Server::start();
    for (patch, limits) in [
        (json!({"rate_limit": {"new_flows_per_second": 1000}}), (1000, 0)),
        (json!({"rate_limit": {"per_source": 10}}), (1000, 10)),
        (json!({"rate_limit": {"new_flows_per_second": null}}), (0, 10)),
        (json!({"rate_limit": null}), (0, 0)),
    ] {
        let report = server.write(Method::PATCH, "/v1/services/web", patch).await;
        assert_eq!(report.changes[0].fields[0].field, "rate_limit");
        let limit = server.config().services[0].rate_limit;
        assert_eq!((limit.new_flows_per_second, limit.per_source), limits);
    }
    let body = json!({"probe_source": {"ipv4": "10.255.42.1", "ipv6": "fd00:255::1"}});
    server.write(Method::PATCH, "/v1/virtual_networks/east", body).await;
    server.write(Method::PATCH, "/v1/virtual_networks/east", json!({"probe_source": {"ipv4": null}})).await;
    let source = server.config().virtual_networks[0].probe_source;
    assert_eq!((source.ipv4, source.ipv6), (None, Some("fd00:255::1".parse().unwrap())));
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted_and_every_user_is_listed() {
    let server = Server::start();
    for (path, referrers) in [
        (
            "/v1/virtual_networks/east",
            &["pools[0].endpoints[0].virtual_network", "pools[0].endpoints[1].virtual_network"][..],
        ),
        ("/v1/monitors/tcp1", &["pools[0].monitor"]),
        ("/v1/pools/web", &["services[0].pools[0]"]),
        ("/v1/monitors/gateway", &["virtual_networks[0].tunnels[0].monitor"]),
        ("/v1/virtual_networks/east/tunnels/a", &["pools[0].endpoints[0].tunnels[0]"]),
    ] {
        let problem = server.refused(server.request(Method::DELETE, path)).await;
        assert_eq!((problem.kind.as_str(), problem.status), ("referenced", 409), "{path}");
        assert_eq!(problem.mistakes.iter().map(|m| m.path.as_str()).collect::<Vec<_>>(), referrers);
    }
    let problem = server.refused(server.request(Method::DELETE, "/v1/pools/web")).await;
    assert!(problem.mistakes[0].message.contains("service `web`"), "{problem:?}");
    assert_eq!(server.config(), config());
}

#[tokio::test]
async fn a_pool_is_in_use_wherever_a_service_names_it() {
    let server = Server::start();
    server.write(Method::PUT, "/v1/pools/spare", json!({})).await;
    let delete = || server.refused(server.request(Method::DELETE, "/v1/pools/spare"));
    for (patch, place) in [
        (json!({"fallback_pool": "spare"}), "services[0].fallback_pool"),
        (
            json!({"fallback_pool": null, "random_steering": {"pool_weights": {"spare": 0.5}}}),
            "services[0].random_steering.pool_weights.spare",
        ),
        (json!({"random_steering": null, "pools": ["web", "spare"]}), "services[0].pools[1]"),
    ] {
        server.write(Method::PATCH, "/v1/services/web", patch).await;
        let problem = delete().await;
        assert_eq!((problem.kind.as_str(), problem.mistakes.len()), ("referenced", 1), "{problem:?}");
        assert_eq!(problem.mistakes[0].path, place);
    }
    server.write(Method::PATCH, "/v1/services/web", json!({"pools": ["web"]})).await;
    server.write(Method::DELETE, "/v1/pools/spare", Value::Null).await;
}

#[tokio::test]
async fn what_is_not_in_use_is_deleted_with_what_it_contains() {
    let server = Server::start();
    for path in ["/v1/pools/web/endpoints/a", "/v1/pools/web/endpoints/b"] {
        server.write(Method::DELETE, path, Value::Null).await;
    }
    let report = server.write(Method::DELETE, "/v1/virtual_networks/east", Value::Null).await;
    assert_eq!(
        names(&report.changes),
        [(ChangeAction::Deleted, "virtual_networks", "east"), (ChangeAction::Deleted, "tunnels", "east/a"),]
    );
    let gone = server.request(Method::DELETE, "/v1/virtual_networks/east");
    assert_eq!(server.refused(gone).await.kind, "not_found");
}

#[tokio::test]
async fn a_lost_race_is_repeated_and_the_rivals_change_is_kept() {
    let server = Server::start();
    server.agent.with(|state| state.rivals = 3);
    let report = server.write(Method::PATCH, "/v1/monitors/tcp1", json!({"timeout": "2s"})).await;
    assert_eq!(report.revision, 11);
    let monitor = &server.config().monitors[0];
    assert_eq!((monitor.retries, monitor.timeout.as_secs()), (3, 2));
}

#[tokio::test]
async fn with_if_match_a_lost_race_is_reported() {
    let server = Server::start();
    let body = json!({"timeout": "2s"});
    let stale = server.request(Method::PATCH, "/v1/monitors/tcp1").header("if-match", "\"6\"").json(&body);
    let problem = server.refused(stale).await;
    assert_eq!((problem.kind.as_str(), problem.status), ("conflict", 412));
    assert!(problem.detail.contains("revision 7"), "{}", problem.detail);

    server.agent.with(|state| state.rivals = 1);
    let raced = server.request(Method::PATCH, "/v1/monitors/tcp1").header("if-match", "\"7\"").json(&body);
    assert_eq!(server.refused(raced).await.kind, "conflict");

    let current = server.request(Method::PATCH, "/v1/monitors/tcp1").header("if-match", "\"8\"").json(&body);
    assert_eq!(current.send().await.unwrap().status(), StatusCode::OK);

    let nonsense = server.request(Method::PATCH, "/v1/monitors/tcp1").header("if-match", "new").json(&body);
    assert!(server.refused(nonsense).await.detail.contains("If-Match"));
}
