#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Registers this machine's web sign-in with a Microsoft Entra tenant, by the Azure
# CLI (2.37 or later), as `latchkey sso set` wants it: accounts of this directory
# only, platform Web, one redirect URI, no token through the browser, a secret for a
# year or a certificate. No API permission is asked for.
#
# usage: register-app.sh REDIRECT-URI [NAME] [CERTIFICATE.pem]
#
# REDIRECT-URI is what `latchkey sso test` prints. Run it where `az login` was done,
# by somebody who may register apps (Application Developer, or any member where the
# tenant lets members). The secret goes to a file of mode 0600, never to the screen.
set -eu

fail() {
	echo "register-app.sh: $*" >&2
	exit 1
}

[ $# -ge 1 ] && [ $# -le 3 ] || fail "usage: register-app.sh REDIRECT-URI [NAME] [CERTIFICATE.pem]"
uri=$1
case $uri in
https://?*/?*) ;;
*) fail "the redirect URI is https://, a host and a path, as latchkey sso test prints it" ;;
esac
host=${uri#https://}
base="https://${host%%/*}"
host=${host%%/*}
name=${2:-"nas-${host%%[:.]*}"}
certificate=${3:-}
command -v az >/dev/null || fail "the Azure CLI (az) is not installed"
tenant=$(az account show --query tenantId --output tsv) || fail "sign in first: az login --allow-no-subscriptions"

found=$(az ad app list --display-name "$name" --query '[].appId' --output tsv)
[ -z "$found" ] || fail "there is an app of the name $name already: $found"

client=$(az ad app create --display-name "$name" --sign-in-audience AzureADMyOrg --web-redirect-uris "$uri" \
	--enable-id-token-issuance false --enable-access-token-issuance false \
	--optional-claims '{"idToken":[{"name":"sid"},{"name":"acct"}]}' --query appId --output tsv)
# Who signs out of Entra ID is signed out here, where the browser lets it through.
az ad app update --id "$client" --set "web={\"redirectUris\":[\"$uri\"],\"logoutUrl\":\"$base/auth/oidc/signed-out\"}" ||
	echo "register-app.sh: the front-channel logout URL could not be set; it is $base/auth/oidc/signed-out" >&2
az ad sp create --id "$client" --output none

if [ -n "$certificate" ]; then
	# The public half only: a key in the file stays here.
	public=$(mktemp)
	trap 'rm -f "$public"' EXIT
	openssl x509 -in "$certificate" -out "$public"
	az ad app credential reset --id "$client" --append --cert "@$public" --output none
	proof="--certificate $certificate"
else
	umask 077
	file="./$name.secret"
	az ad app credential reset --id "$client" --append --display-name latchkey --years 1 --query password --output tsv >"$file"
	proof="--secret-stdin --expires $(date -u -d '+1 year' +%Y-%m-%d 2>/dev/null || date -u -v+1y +%Y-%m-%d) <$file"
fi

cat <<END
Registered. On the machine, as root:

  latchkey sso set --tenant $tenant --client $client --redirect-uri $uri $proof
END
