# Run on the app host: deploys a release with its migrations, as its team does. Usage: bash level3-deploy.sh TAG
# shellcheck shell=bash
set -e
cd ~/sparklio_ai_marketing_studio
git checkout -q "$1"
cd backend
venv/bin/alembic upgrade heads 2> /dev/null
pid=$(pgrep -u sparklio -o -f '[u]vicorn app.main:app' || true)
if [ -n "$pid" ]; then
  kill "$pid"
  while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
fi
nohup venv/bin/uvicorn app.main:app --host 0.0.0.0 --port 8000 > ../logs/backend.log 2>&1 < /dev/null &
for _ in $(seq 300); do
  curl -sf -o /dev/null localhost:8000/health && exit 0
  sleep 0.2
done
tail -n 3 ../logs/backend.log >&2
exit 1
