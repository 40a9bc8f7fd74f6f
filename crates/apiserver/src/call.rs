//! What handlers ask of a request beyond its target: its body, decoded, and the parameters that all writes share.

use http::header;
use kube_schema::Schema;
use registry::{Decoded, FieldValidation, Resource, Status, Target};
use runtime::CancellationToken;
use serde_json::Value;

use crate::{
    body,
    negotiate::{self, Format},
    pipeline::{Call, Peer},
    protobuf, request,
};

const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

fn malformed(error: protobuf::ProtobufError) -> Status {
    Status::bad_request(error.to_string())
}

impl Call {
    /// The request's target. Handlers are reached for resources only.
    pub fn target(&self) -> &request::Target {
        self.info.resource.as_ref().expect("the router calls handlers of resources for resources only")
    }

    /// The namespace of the request; empty for cluster-wide kinds.
    pub fn namespace(&self) -> &str {
        self.target().namespace()
    }

    /// The name in the path.
    pub fn name(&self) -> &str {
        self.target().name()
    }

    /// The token that closes the connection, where that ends this request only.
    pub fn own_connection(&self) -> Option<CancellationToken> {
        match &self.peer {
            Peer::Remote { connection, .. }
                if connection.one_request_at_a_time.load(std::sync::atomic::Ordering::Acquire) =>
            {
                Some(connection.cancel.clone())
            }
            _ => None,
        }
    }

    /// The whole body.
    pub async fn read_body(&mut self) -> Result<bytes::Bytes, Status> {
        match self.body.get_mut().take() {
            Some(body) => body::read(body, &self.headers, self.core.limits.max_body).await,
            None => Ok(bytes::Bytes::new()),
        }
    }

    pub fn field_validation(&self) -> Result<FieldValidation, Status> {
        let word = self.info.query.get("fieldValidation").unwrap_or_default();
        FieldValidation::parse(word).ok_or_else(|| {
            let why = format!("Unsupported value: {word:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"");
            Status::new(422, "Invalid", format!("CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: {why}"))
        })
    }

    /// Whether nothing is to be written (`dryRun=All`).
    pub fn dry_run(&self) -> Result<bool, Status> {
        let mut asked = false;
        for value in self.info.query.all("dryRun") {
            match value {
                "" => {}
                "All" => asked = true,
                other => {
                    let why = format!("dryRun: Unsupported value: [{other:?}]: supported values: \"All\"");
                    let message = format!("CreateOptions.meta.k8s.io \"\" is invalid: {why}");
                    return Err(Status::new(422, "Invalid", message));
                }
            }
        }
        Ok(asked)
    }

    /// Reads and decodes the body; what was dropped from it becomes warnings.
    pub async fn decode(&mut self, resource: &Resource, target: Target) -> Result<Value, Status> {
        let format = negotiate::format(&self.headers)?;
        let validation = self.field_validation()?;
        let body = self.read_body().await?;
        self.decode_body(resource, target, (format, validation), &body)
    }

    /// Decodes a body that has been read.
    pub fn decode_body(
        &mut self,
        resource: &Resource,
        target: Target,
        (format, validation): (Format, FieldValidation),
        body: &[u8],
    ) -> Result<Value, Status> {
        let decoded = match format {
            Format::Json => resource.decode(target, body, validation)?,
            Format::Yaml => {
                let text = std::str::from_utf8(body)
                    .map_err(|_| Status::bad_request("the body is not YAML: it is not UTF-8"))?;
                let value: Value = serde_saphyr::from_str(text)
                    .map_err(|error| Status::bad_request(format!("the body is not YAML: {error}")))?;
                resource.decode_value(target, value, validation)?
            }
            Format::Protobuf => {
                let type_id = match target {
                    Target::Scale => resource.schema().find(SCALE).ok_or_else(Status::no_such_path)?,
                    _ => resource.type_id(),
                };
                let value = protobuf::decode(resource.schema(), type_id, body).map_err(malformed)?;
                resource.decode_value(target, value, validation)?
            }
        };
        let Decoded { value, mut warnings } = decoded;
        self.warnings.append(&mut warnings);
        Ok(value)
    }

    /// Reads a body that is not an object of a served kind, such as `DeleteOptions`. No body reads as null.
    pub async fn decode_plain(&mut self, type_name: &str) -> Result<Value, Status> {
        let format = negotiate::format(&self.headers)?;
        let body = self.read_body().await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let kind = type_name.rsplit('.').next().unwrap_or(type_name);
        let bad = |why: String| Status::bad_request(format!("the body is not a {kind}: {why}"));
        let value: Value = match format {
            Format::Json => serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?,
            Format::Yaml => serde_saphyr::from_slice(&body).map_err(|error| bad(error.to_string()))?,
            Format::Protobuf => {
                let schema = Schema::builtin();
                let type_id = schema.find(type_name).ok_or_else(Status::no_such_path)?;
                protobuf::decode(schema, type_id, &body).map_err(malformed)?
            }
        };
        if value.is_object() { Ok(value) } else { Err(bad("expected an object".into())) }
    }

    /// Whether the client asked for indentation.
    pub fn pretty(&self) -> bool {
        match self.info.query.get("pretty") {
            Some(_) => self.info.query.flag("pretty"),
            // People who look with a browser or curl get it without asking, as kube-apiserver does for them.
            None => {
                let agent = self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
                ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
            }
        }
    }
}
