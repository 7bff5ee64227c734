//! What the API answers when it refuses: RFC 9457 problem documents. The only place that picks a status.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use lbx_common::api::{Collection, Mistake, Problem};

use crate::control::RefusedError;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    NotAllowed(String),
    #[error("there is a {} `{name}` already: change that one (`lbx-ctl set`, PATCH), or choose another name",
        collection.singular())]
    Exists { collection: Collection, name: String },
    #[error("{} `{name}` is still in use: change or delete what uses it first", collection.singular())]
    Referenced { collection: Collection, name: String, referrers: Vec<Mistake> },
    #[error("{0}")]
    Busy(String),
    #[error(transparent)]
    Refused(#[from] RefusedError),
}

impl ApiError {
    pub(super) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Refused(RefusedError::Invalid(vec![Mistake::new(path, message)]))
    }

    pub(super) fn into_problem(self) -> Problem {
        let (kind, title, status) = match &self {
            Self::Malformed(_) => ("invalid", "The request cannot be understood", StatusCode::BAD_REQUEST),
            Self::TooLarge(_) => ("invalid", "The request is too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::NotFound(_) => ("not_found", "There is no such thing", StatusCode::NOT_FOUND),
            Self::NotAllowed(_) => {
                ("not_allowed", "That cannot be done here", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::Exists { .. } => ("exists", "The name is taken", StatusCode::CONFLICT),
            Self::Referenced { .. } => ("referenced", "The object is in use", StatusCode::CONFLICT),
            Self::Busy(_) => ("busy", "Too many do that already", StatusCode::TOO_MANY_REQUESTS),
            Self::Refused(RefusedError::Invalid(_)) => {
                ("invalid", "The configuration is invalid", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::Refused(RefusedError::Conflict { .. }) => {
                ("conflict", "Somebody else changed the configuration", StatusCode::PRECONDITION_FAILED)
            }
            Self::Refused(RefusedError::ReadOnly(_)) => {
                ("read_only", "The configuration is read-only", StatusCode::FORBIDDEN)
            }
            Self::Refused(RefusedError::Stopping) => {
                ("failed", "The agent is stopping", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Refused(RefusedError::Failed(_)) => {
                ("failed", "The change failed", StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        let detail = match &self {
            Self::Refused(RefusedError::Invalid(mistakes)) => format!(
                "the new configuration has {}; nothing was changed",
                match mistakes.len() {
                    1 => "1 mistake".to_owned(),
                    n => format!("{n} mistakes"),
                }
            ),
            Self::Malformed(_)
            | Self::TooLarge(_)
            | Self::NotFound(_)
            | Self::NotAllowed(_)
            | Self::Exists { .. }
            | Self::Referenced { .. }
            | Self::Busy(_)
            | Self::Refused(
                RefusedError::Conflict { .. }
                | RefusedError::ReadOnly(_)
                | RefusedError::Stopping
                | RefusedError::Failed(_),
            ) => self.to_string(),
        };
        let mistakes = match self {
            Self::Refused(RefusedError::Invalid(mistakes)) | Self::Referenced { referrers: mistakes, .. } => {
                mistakes
            }
            Self::Malformed(_)
            | Self::TooLarge(_)
            | Self::NotFound(_)
            | Self::NotAllowed(_)
            | Self::Exists { .. }
            | Self::Busy(_)
            | Self::Refused(
                RefusedError::Conflict { .. }
                | RefusedError::ReadOnly(_)
                | RefusedError::Stopping
                | RefusedError::Failed(_),
            ) => Vec::new(),
        };
        Problem { kind: kind.to_owned(), title: title.to_owned(), status: status.as_u16(), detail, mistakes }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.into_problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], axum::Json(problem)).into_response()
    }
}
