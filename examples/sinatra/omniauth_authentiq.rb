# SPDX-License-Identifier: Apache-2.0

# In the place of the gem omniauth-authentiq: an OmniAuth strategy of the same name
# that makes the same auth hash, of what the gate says in its headers.

require 'json'
require 'omniauth'

module OmniAuth
  module Strategies
    class Authentiq
      include OmniAuth::Strategy

      # The gem's, which the gate has now. They may stay where they are.
      args %i[client_id client_secret]
      option :name, 'authentiq'
      option :client_id
      option :client_secret
      option :client_options, {}
      option :scope

      # Who gets here has signed in at the gate, so the way to the provider and back
      # is over. The callback's address outside is the gate's own.
      def request_phase
        env['REQUEST_METHOD'] = 'GET'
        env['PATH_INFO'] = "#{path_prefix}/#{name}/callback"
        callback_call
      end

      def callback_phase
        uid ? super : fail!(:not_signed_in)
      end

      uid { text('SUBJECT') }

      info do
        { name: text('NAME'), first_name: text('GIVEN_NAME'), last_name: text('FAMILY_NAME'),
          email: text('EMAIL'), phone: text('PHONE'),
          location: object('ADDRESS'), geolocation: object('GEOLOCATION') }.compact
      end

      # The two about verification are true or false if there is something to verify.
      extra do
        { middle_name: text('MIDDLE_NAME'),
          email_verified: text('EMAIL') && text('EMAIL_VERIFIED') == 'true',
          phone_type: text('PHONE_TYPE'),
          phone_number_verified: text('PHONE') && text('PHONE_VERIFIED') == 'true',
          locale: text('LOCALE'), zoneinfo: text('ZONEINFO') }.compact
      end

      # The provider's session.
      def auth_hash
        super.tap { |hash| hash[:sid] = text('SID') if text('SID') }
      end

      private

      # Rack takes headers for bytes, and the gate sends UTF-8.
      def text(name)
        value = env["HTTP_X_AUTHENTIQ_#{name}"]
        value.dup.force_encoding(Encoding::UTF_8).scrub unless value.nil? || value.empty?
      end

      def object(name)
        value = text(name)
        JSON.parse(value) if value
      end
    end
  end
end
