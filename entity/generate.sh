#!/bin/sh
# Rewrites the entities of one database: generate.sh shop|library|audit URL
# The database must have its migrations applied. README.md says which sea-orm-cli this needs.
set -eu
module=$1 url=$2
case $module in
shop | library | audit) ;;
*) echo "generate.sh: no module '$module' (shop, library, audit)" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")"
rm -rf "src/$module" # so that the entity of a dropped table goes too
sea-orm-cli generate entity --entity-format dense --database-url "$url" --output-dir "src/$module"
