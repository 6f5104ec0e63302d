# Run on the app host in the background: kills the server's first process, and so all of it, as soon as a new run is at the
# database. It is started again a little later, as whoever watches it would.
# shellcheck shell=bash
newest() { find ~/sparklio_ai_marketing_studio.rollback/runs -maxdepth 1 -name '*-level3' | sort | tail -n 1; }
before=$(newest)
for _ in $(seq 6000); do
  run=$(newest)
  if [ "$run" != "$before" ] && grep -q '"event": *"step".*"step": *"database"' "$run/journal.jsonl" 2> /dev/null; then break; fi
  sleep 0.1
done
sleep 3
sudo kill -9 "$(sudo head -n 1 /var/lib/postgresql/15/main/postmaster.pid)"
sleep 2
sudo systemctl restart postgresql@15-main
