import RemoteList from '../../components/remote-list';

export default function Workflows() {
  return <RemoteList path="/api/v1/workflows" title="Workflows" fields={['id', 'workflow_type', 'status']} />;
}
