# SPDX-License-Identifier: Apache-2.0

# An application that used omniauth-authentiq: its button, its callback and what it
# keeps of the auth hash are as they were.

require 'json'
require 'sinatra/base'
require_relative 'omniauth_authentiq'

class App < Sinatra::Base
  enable :sessions

  use OmniAuth::Builder do
    provider :authentiq
  end

  helpers do
    def user
      session[:user]
    end

    def token
      Rack::Protection::AuthenticityToken.token(session)
    end

    # Nothing of the session that was there is in the next one: whoever had put it into
    # this browser, or sat there before, has its token.
    def start_anew(gate)
      session.clear
      session.options[:renew] = true
      session[:gate] = gate
    end

    def h(value)
      Rack::Utils.escape_html(value.to_s)
    end
  end

  # This application has a session of its own. It is over when the gate says that
  # somebody else is there, or nobody.
  before do
    gate = request.env['HTTP_X_AUTHENTIQ_SUBJECT'].to_s
    halt 401, "This application is behind a gate, and you are not.\n" if gate.empty?
    start_anew(gate) if session[:gate] != gate || user && user['uid'] != gate
  end

  get '/' do
    erb :index
  end

  get '/auth/authentiq/callback' do
    start_anew(session[:gate])
    session[:user] = request.env['omniauth.auth'].to_hash
    redirect '/'
  end

  get('/auth/failure') { halt 401, "You are not signed in.\n" }

  # What this application was told, for whoever wants to see it.
  get '/auth-hash' do
    content_type :json
    JSON.generate(user || {})
  end

  template :index do
    <<~PAGE
      <!doctype html>
      <meta charset="utf-8">
      <title>Sinatra – behind the gate</title>
      <% if user %>
      <h1>Hello, <span id="name"><%= h user['info']['name'] %></span></h1>
      <p id="user"><%= h user['uid'] %></p>
      <p><a href="/auth-hash">The auth hash</a></p>
      <% else %>
      <form method="post" action="/auth/authentiq">
      <input type="hidden" name="authenticity_token" value="<%= h token %>">
      <button>Sign in with Authentiq</button>
      </form>
      <% end %>
      <p><a href="/authentiq/sign-out?return_to=/">Sign out</a></p>
    PAGE
  end
end
