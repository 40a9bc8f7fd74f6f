//! Who one is, and what one may do: certificates, tokens, refusals, reviews.

use apiserver::Identity;
use serde_json::{Value, json};

use crate::harness::{ADMIN_TOKEN, Server, server};

const PODS: &str = "GET /api/v1/namespaces/default/pods";

async fn bearer(server: &Server, token: &str, line: &str) -> crate::harness::Answer {
    server.remote(None, line, &[("authorization", &format!("Bearer {token}"))], "").await
}

#[tokio::test]
async fn certificates_tokens_and_nobody() {
    let server = server().await;
    let admin = server.pki.client("admin", &["system:masters"]);
    server.remote(Some(&admin), PODS, &[], "").await.expect(200);
    bearer(&server, ADMIN_TOKEN, PODS).await.expect(200);
    bearer(&server, "wrong", PODS).await.expect_error(401, "Unauthorized", "Unauthorized");
    server.remote(None, PODS, &[], "").await.expect_error(401, "Unauthorized", "Unauthorized");
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(server.remote(None, &format!("GET {path}"), &[], "").await.code, 200, "{path}");
    }
    assert_eq!(server.remote(None, "GET /metrics", &[], "").await.code, 401);
    let jane = server.pki.client("jane", &["dev"]);
    server.remote(Some(&jane), PODS, &[], "").await.expect_error(
        403,
        "Forbidden",
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
    );
    server.remote(Some(&jane), "DELETE /api/v1/nodes/a", &[], "").await.expect_error(
        403,
        "Forbidden",
        "nodes \"a\" is forbidden: User \"jane\" cannot delete resource \"nodes\" in API group \"\" at the cluster scope",
    );
    server.remote(Some(&jane), "GET /metrics", &[], "").await.expect_error(
        403,
        "Forbidden",
        "forbidden: User \"jane\" cannot get path \"/metrics\"",
    );
    server.remote(Some(&jane), "GET /apis", &[], "").await.expect(200);
    for user in ["system:kube-scheduler", "system:kube-controller-manager"] {
        server.call_as(Identity::component(user), PODS, &[], "").await.expect(200);
    }
    server.call_as(Identity::node("a"), PODS, &[], "").await.expect(200);
}

async fn create_token(server: &Server, spec: Value) -> Value {
    let body = json!({ "spec": spec });
    server.call("POST /api/v1/namespaces/default/serviceaccounts/web/token", body).await.expect(201)
}

#[tokio::test]
async fn service_account_tokens_end_with_what_they_are_bound_to() {
    let server = server().await;
    let account = json!({ "metadata": { "name": "web" } });
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.call(&format!("POST {accounts}"), account.clone()).await.expect(201);
    let answer = create_token(&server, json!({})).await;
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);

    let whoami = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [("authorization", format!("Bearer {token}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let review = server.remote(None, whoami, &headers, "{}").await.expect(201);
    let info = &review["status"]["userInfo"];
    assert_eq!(info["username"], "system:serviceaccount:default:web");
    assert_eq!(info["groups"][1], "system:serviceaccounts:default");
    bearer(&server, &token, PODS).await.expect_error(
        403,
        "Forbidden",
        "pods is forbidden: User \"system:serviceaccount:default:web\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
    );

    let review = |token: &str| json!({ "spec": { "token": token } });
    let known = server.call("POST /apis/authentication.k8s.io/v1/tokenreviews", review(&token)).await.expect(201);
    assert_eq!(known["status"]["authenticated"], true);
    let other = create_token(&server, json!({ "audiences": ["vault"] })).await;
    let other = other["status"]["token"].as_str().unwrap();
    assert_eq!(bearer(&server, other, "GET /api").await.code, 401);

    // A new account of the same name is another account.
    server.call(&format!("DELETE {accounts}/web"), json!({})).await.expect(200);
    server.call(&format!("POST {accounts}"), account).await.expect(201);
    assert_eq!(bearer(&server, &token, "GET /api").await.code, 401);
    let unknown = server.call("POST /apis/authentication.k8s.io/v1/tokenreviews", review(&token)).await.expect(201);
    assert_eq!(unknown["status"]["authenticated"], false);

    let short = json!({ "spec": { "expirationSeconds": 5 } });
    assert_eq!(server.call(&format!("POST {accounts}/web/token"), short).await.code, 422);
    let missing = server.call(&format!("POST {accounts}/none/token"), json!({})).await;
    missing.expect_error(404, "NotFound", "serviceaccounts \"none\" not found");
}

#[tokio::test]
async fn the_issuer_is_described() {
    let server = server().await;
    let document = server.get("/.well-known/openid-configuration").await.expect(200);
    assert_eq!(document["jwks_uri"], "https://kubernetes.default.svc/openid/v1/jwks");
    let keys = server.get("/openid/v1/jwks").await.expect(200);
    assert_eq!((keys["keys"][0]["kty"].as_str(), keys["keys"][0]["alg"].as_str()), (Some("EC"), Some("ES256")));
}

#[tokio::test]
async fn reviews_answer_what_would_be_decided() {
    let server = server().await;
    let ask = |user: &str, verb: &str| {
        let attributes = json!({ "verb": verb, "resource": "pods", "namespace": "default" });
        json!({ "spec": { "user": user, "groups": ["dev"], "resourceAttributes": attributes } })
    };
    let path = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (user, expected) in [("jane", false), ("system:kube-scheduler", true)] {
        let review = server.call(path, ask(user, "list")).await.expect(201);
        assert_eq!(review["status"]["allowed"], expected, "{user}");
    }
    let rules = "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let review = server.call(rules, json!({ "spec": { "namespace": "default" } })).await.expect(201);
    assert_eq!(review["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    assert_eq!(server.call(path, json!({ "spec": {} })).await.code, 422);
}
