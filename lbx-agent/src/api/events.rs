//! `GET /v1/events`: events as lines of JSON, those that are kept, or for as long as somebody follows.

use std::collections::BTreeSet;

use axum::{
    body::Body,
    extract::{FromRequestParts, Query, State},
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use lbx_common::api::EventType;

use super::{error::ApiError, handlers::Api};
use crate::control::Control;

/// Which events are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventQuery {
    follow: bool,
    since: Option<u64>,
    types: BTreeSet<EventType>,
}

/// What the `Content-Type` says.
pub(super) const LINES: &str = "application/x-ndjson";

const TAKES: &str = "events are chosen by `follow=true`, `since=NUMBER`, and any number of `type=TYPE`";

impl<S: Send + Sync> FromRequestParts<S> for EventQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        // A parameter may be there more than once.
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::Malformed(format!("{}; {TAKES}", error.body_text())))?;
        let mut query = Self::default();
        let mut mistakes = Vec::new();
        for (name, value) in pairs {
            match name.as_str() {
                "follow" => match value.parse() {
                    Ok(follow) => query.follow = follow,
                    Err(_) => mistakes.push(format!("follow: `{value}` is neither `true` nor `false`")),
                },
                "since" => match value.parse() {
                    Ok(since) => query.since = Some(since),
                    Err(_) => mistakes.push(format!("since: `{value}` is no number of an event")),
                },
                "type" => match value.parse() {
                    Ok(of_type) => drop(query.types.insert(of_type)),
                    Err(error) => mistakes.push(format!("type: {error}")),
                },
                _ => mistakes.push(format!("there is no parameter `{name}`; {TAKES}")),
            }
        }
        if mistakes.is_empty() { Ok(query) } else { Err(ApiError::Malformed(mistakes.join("; "))) }
    }
}

pub(super) async fn events<C: Control>(
    State(api): State<Api<C>>,
    EventQuery { follow, since, types }: EventQuery,
) -> Result<Response, ApiError> {
    let events = api.control.events();
    let reader = if follow {
        events.follow(since, types).map_err(|error| ApiError::Busy(error.to_string()))?
    } else {
        events.read(since.unwrap_or(0), types)
    };
    let lines = stream::unfold(reader, async |mut reader| {
        let lines = reader.more().await?;
        Some((Ok::<_, std::convert::Infallible>(lines), reader))
    });
    Ok(([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response())
}
