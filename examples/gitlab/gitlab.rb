external_url 'http://localhost:9080'

# GitLab's own nginx is not in the way, and only this machine reaches it past the gate.
nginx['enable'] = false
gitlab_workhorse['listen_network'] = "tcp"
gitlab_workhorse['listen_addr'] = "127.0.0.1:8181"

gitlab_rails['omniauth_allow_single_sign_on'] = ['shibboleth']
gitlab_rails['omniauth_block_auto_created_users'] = true
gitlab_rails['omniauth_providers'] = [
  {
    "name"  => "shibboleth",
    "label" => "Authentiq",
    "args"  => {
      "shib_session_id_field"     => "HTTP_X_AUTHENTIQ_SUBJECT",
      "shib_application_id_field" => "HTTP_X_AUTHENTIQ_ISSUER",
      "uid_field"                 => "HTTP_X_AUTHENTIQ_SUBJECT",
      "name_field"                => "HTTP_X_AUTHENTIQ_NAME",
      "info_fields"               => { "email" => "HTTP_X_AUTHENTIQ_EMAIL", "nickname" => "HTTP_X_AUTHENTIQ_USERNAME" }
    }
  }
]
