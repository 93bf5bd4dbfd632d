#!/bin/bash
# One git repository, site.git, over smart HTTP: fetch and push (a demonstration).
#   HTPASSWD    file with users and passwords, looked at for each request; without it nobody is asked
#   SITE_ROOT   where the repository lives        RUN_DIR       sockets and temporary files
#   LISTEN      address, all of them by default    PORT          8080 by default
set -eu
root=${SITE_ROOT:-/srv/git}
run=${RUN_DIR:-/tmp}
repository=$root/site.git
export HOME=$run GIT_CONFIG_NOSYSTEM=1

if [ ! -e "$repository/HEAD" ]; then
  git init --quiet --bare --template= --initial-branch=main "$repository"
  git -C "$repository" config http.receivepack true
  export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@localhost GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@localhost
  blob=$(printf '<!doctype html>\n<title>gitsync</title>\n<h1>Hello from the first commit</h1>\n' |
    git -C "$repository" hash-object -w --stdin)
  tree=$(printf '100644 blob %s\tindex.html\n' "$blob" | git -C "$repository" mktree)
  git -C "$repository" update-ref refs/heads/main "$(git -C "$repository" commit-tree "$tree" -m 'First page')"
fi

login=''
if [ -n "${HTPASSWD:-}" ]; then login="auth_basic git; auth_basic_user_file $HTPASSWD;"; fi

# One process, so that nginx keeps the user it was started as, root included.
conf="daemon off; master_process off; pid $run/git-nginx.pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
  access_log off;
  client_max_body_size 0;
  client_body_temp_path $run/git-body; proxy_temp_path $run/git-proxy; fastcgi_temp_path $run/git-fastcgi;
  uwsgi_temp_path $run/git-uwsgi; scgi_temp_path $run/git-scgi;
  server {
    listen ${LISTEN:-0.0.0.0}:${PORT:-8080};
    location = /healthz { return 200 ok; }
    location / {
      $login
      fastcgi_pass unix:$run/git-fcgi.sock;
      fastcgi_param SCRIPT_FILENAME $(git --exec-path)/git-http-backend;
      fastcgi_param GIT_PROJECT_ROOT $root;
      fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param GIT_PROTOCOL \$http_git_protocol;
      fastcgi_param HTTP_CONTENT_ENCODING \$http_content_encoding;
      fastcgi_param PATH_INFO \$uri;
      fastcgi_param QUERY_STRING \$args;
      fastcgi_param REQUEST_METHOD \$request_method;
      fastcgi_param CONTENT_TYPE \$content_type;
      fastcgi_param CONTENT_LENGTH \$content_length;
      fastcgi_param REMOTE_ADDR \$remote_addr;
      fastcgi_param REMOTE_USER anonymous;
      fastcgi_param SERVER_PROTOCOL \$server_protocol;
    }
  }
}"
printf '%s\n' "$conf" >"$run/git-nginx.conf"
# A process group of its own, because fcgiwrap does not end its children.
set -m
fcgiwrap -c 2 -s "unix:$run/git-fcgi.sock" &
wrapper=$!
set +m
nginx -e stderr -p "$run" -c "$run/git-nginx.conf" &
server=$!
stop() {
  kill "$server" 2>/dev/null || true
  kill -- "-$wrapper" 2>/dev/null || true
}
# Either process ending ends the server; a signal ends both.
trap 'stop; exit 0' TERM INT
wait -n || true
stop
exit 1
